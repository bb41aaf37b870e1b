"""The wheel holds all that the verbs need: unpacked elsewhere, they run from another folder."""

import os
import subprocess
import sys
import zipfile
from importlib import util
from pathlib import Path

import pytest

import raydistill
from raydistill.__main__ import verbs

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The wheel's content in a folder: what pip would put into site-packages."""
    if util.find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = folder.glob("*.whl")
    assert raydistill.__version__ in wheel.name
    with zipfile.ZipFile(wheel) as file:
        file.extractall(folder / "site")
    return folder / "site"


def _raydistill(unpacked, folder, *words):
    """Runs the wheel's own package: PYTHONPATH comes before the checkout."""
    return subprocess.run(
        [sys.executable, "-m", "raydistill", *words],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(unpacked)}, capture_output=True, text=True,
    )  # fmt: skip


def test_the_wheel_holds_configuration_jobs_and_what_the_demo_reads(unpacked):
    inside = unpacked / "raydistill"
    for kind, ending in (("conf", "yaml"), ("jobs", "py")):
        ours = {str(one.relative_to(ROOT / kind)) for one in (ROOT / kind).rglob(f"*.{ending}")}
        theirs = {str(o.relative_to(inside / kind)) for o in (inside / kind).rglob(f"*.{ending}")}
        assert theirs == ours
    package = ROOT / "raydistill"
    data = {one for one in package.rglob("*") if one.suffix in (".yaml", ".j2", ".js", ".css")}
    assert data
    for one in data:
        assert (inside / one.relative_to(package)).is_file(), one


def test_the_command_line_works_from_another_folder(unpacked, tmp_path):
    done = _raydistill(unpacked, tmp_path, "--help")
    assert done.returncode == 0
    assert all(name in done.stdout for name in verbs())
    done = _raydistill(unpacked, tmp_path, "build", "negativs=3")
    assert done.returncode == 2
    assert "negatives" in done.stderr
    assert "Traceback" not in done.stderr
    done = _raydistill(unpacked, tmp_path, "train", "--cfg", "job")
    assert "fit:" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_verb_is_named(unpacked, tmp_path):
    done = _raydistill(unpacked, tmp_path, "trian")
    assert done.returncode == 2
    assert "trian" in done.stderr
    assert "Traceback" not in done.stderr
