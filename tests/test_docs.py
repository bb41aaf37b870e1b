"""Every command in README and docs composes, is cheap and runs, or says what it needs; links lead
somewhere; the site builds strictly; the dashboard asks for true metrics.

The verbs' commands themselves are run in test_docs_run.py.
"""

import ast
import json
import re
import runpy
import shlex
import subprocess
import sys
from dataclasses import dataclass
from importlib import util
from pathlib import Path

import pytest
import yaml

from raydistill.__main__ import verbs
from raydistill.config import compose, help_text
from raydistill.metrics import OF_JOBS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NEEDS = {"setup", "cluster", "gpu", "postgres", "service", "time"}
BLOCK = re.compile(r"(?:<!-- needs: ([a-z, ]+) -->\n)?^```(\w*)[^\n]*\n(.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Command:
    """One line of a shell block, and what its block says that it needs."""

    page: str
    line: str
    needs: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.line, comments=True)

    def verb(self) -> tuple[str, list[str]] | None:
        """The verb and its arguments, if the line runs one, through Ray or not."""
        found = re.search(r"(?:python3? jobs/(\w+)\.py|raydistill (\w+))(?=\s|$)(.*)", self.line)
        if found is None or not (name := found[1] or found[2]) or name not in verbs():
            return None
        rest = re.split(r"\s(?:\|\||&&|[|;>&])\s", found[3])[0]
        return name, shlex.split(rest, comments=True)


def _commands():
    for page in PAGES:
        for needs, language, body in BLOCK.findall(page.read_text()):
            if language not in ("", "sh", "bash", "shell", "console"):
                continue
            for line in body.replace("\\\n", " ").splitlines():
                one = Command(page.name, line.strip().removeprefix("$ "), needs)
                # A block without a language may be what a command printed.
                plain = bool(language and one.line and not one.line.startswith("#"))
                if plain or (one.line.startswith(("python jobs/", "raydistill ")) and one.verb()):
                    yield one


COMMANDS = list(_commands())
VERBS = [one for one in COMMANDS if one.verb()]
CHEAP = [one for one in COMMANDS if one.words[-1:] in (["--help"], ["--version"])]


def _config(verb):
    """The dataclass that the verb's job names."""
    file = ROOT / "jobs" / f"{verb}.py"
    owner = re.search(rf'job\("{verb}", (\w+)\.Config', file.read_text())[1]
    return runpy.run_path(str(file), run_name="job")[owner].Config


def test_readme_begins_with_the_two_commands():
    first = BLOCK.search((ROOT / "README.md").read_text())
    lines = [line.split("#")[0].strip() for line in first[3].strip().splitlines()]
    assert lines == ["make demo", "make test"]


@pytest.mark.parametrize("one", VERBS, ids=lambda one: f"{one.page}: {one.line[:60]}")
def test_a_verbs_command_composes(one, monkeypatch):
    verb, arguments = one.verb()
    overrides = [arg for arg in arguments if "=" in arg and not arg.startswith("-")]
    if "--config-dir" in one.line or "${hydra:" in one.line:
        overrides = [o for o in overrides if not o.startswith("source=") and "${hydra:" not in o]
    if "--multirun" in arguments:
        overrides = [o.split(",")[0] if not o.startswith(("'", "[")) else o for o in overrides]
    overrides = [o for o in overrides if ":" not in o or not o.startswith("task=")]
    assert compose(verb, _config(verb), overrides).root


def test_every_other_command_says_what_it_needs():
    silent = [
        f"{one.page}: {one.line}"
        for one in COMMANDS
        if not one.verb() and one not in CHEAP and not one.needs and one.words[0] != "export"
    ]
    silent = [line for line in silent if "python letters.py" not in line]  # test_own_task runs it
    assert silent == []
    strange = {need for one in COMMANDS for need in one.needs.split(", ") if need} - NEEDS
    assert strange == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_command_hides_where_it_is_not_looked_for(page):
    text = page.read_text()
    fences = re.findall(r"^\s*```(.*)$", text, re.M)
    assert all(fences[::2]), "a block without a language"
    assert not any(fences[1::2])
    outside = BLOCK.sub("", text)
    assert re.findall(r"^\s{2,}(?:python jobs/|raydistill |ray |make |\$ ).*", outside, re.M) == []


def test_python_and_yaml_blocks_can_be_read():
    for page in PAGES:
        for _, language, body in BLOCK.findall(page.read_text()):
            if language == "python":
                compile(body, page.name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            elif language == "yaml":
                assert yaml.safe_load(body), page.name


def test_cheap_commands_run():
    assert CHEAP
    for verb in {one.verb()[0] for one in CHEAP if one.verb()}:
        said = help_text(verb, _config(verb), verb)
        assert "Settings:" in said
    done = subprocess.run(
        [sys.executable, "-m", "raydistill", "--help"], capture_output=True, text=True, check=True
    )
    assert all(name in done.stdout for name in verbs())


def test_every_verb_has_a_sentence_and_a_help():
    for verb, sentence in verbs().items():
        assert len(sentence) > 20, verb
        assert "see conf/" not in sentence, verb
        said = help_text(verb, _config(verb), sentence)
        assert "root: " in said, verb
        assert f"python jobs/{verb}.py" in said, f"{verb} has no example"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_dashboard_asks_for_metrics_that_there_are():
    from raydistill.serve.metrics import Metrics

    known = {
        sample
        for family in Metrics().registry.collect()
        for sample in (family.name, f"{family.name}_total", f"{family.name}_bucket")
    }
    known |= {f"raydistill_job_{name}" for name in OF_JOBS}
    live = (ROOT / "raydistill/corpus/live.py").read_text()
    board = json.loads((ROOT / "docs/cluster/grafana.json").read_text())
    asked = {
        name
        for panel in board["panels"]
        for target in panel["targets"]
        for name in re.findall(r"raydistill_\w+", target["expr"])
    }
    assert len(asked) > 18
    for name in asked - known:
        own = name.removeprefix("raydistill_backfill_").removesuffix("_total")
        assert f'"{own}"' in live, name


@pytest.mark.slow
@pytest.mark.skipif(util.find_spec("material") is None, reason="the extra docs is not installed")
def test_the_site_builds_strictly(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--config-file",
         str(ROOT / ".ci/mkdocs.yml"), "--site-dir", str(tmp_path / "site")],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site/own-task/index.html").is_file()
