"""Every verb's metrics: how far it is, what came of it, and how it ended."""

import sys

import pytest

from raydistill import metrics, progress
from raydistill.__main__ import main
from raydistill.errors import SetupError


@pytest.fixture
def verb(monkeypatch, tmp_path):
    """Runs a verb; gives its exit code and its metrics by name and labels, as they are written."""
    folder = tmp_path / "collected"
    folder.mkdir()
    monkeypatch.setenv(metrics.ASKED, str(folder))
    monkeypatch.chdir(tmp_path)

    def run(name, *overrides):
        monkeypatch.setattr(sys, "argv", ["raydistill", name, *overrides])
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code
        (file,) = folder.glob("*.prom")
        assert file.name == f"raydistill_{name}.prom"
        lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
        return code, {key: float(value) for key, _, value in (one.rpartition(" ") for one in lines)}

    return run


def test_a_verb_leaves_what_came_of_it(verb, tiny, tmp_path):
    code, found = verb("export", f"dataset={tiny.dataset.folder}", f"out={tmp_path / 'out'}")
    assert code == 0
    assert found['raydistill_job_exit_code{verb="export"}'] == 0
    assert found['raydistill_job_running{verb="export"}'] == 0
    assert found['raydistill_job_seconds{verb="export"}'] > 0
    figures = [key for key in found if key.startswith("raydistill_job_figure{")]
    assert any("rows" in key or "counts" in key for key in figures)


def test_a_training_tells_its_loss_while_it_runs(verb, tiny, tmp_path):
    code, found = verb(
        "train", f"root={tmp_path}", f"dataset={tiny.dataset.folder}", "student=skip_s",
        "student.width=32", "student.layers=1", "student.heads=2", "student.max_input=96",
        "fit.steps=6", "fit.log_every=2", "fit.batch_tokens=500", "workers=0", "threads=1",
    )  # fmt: skip
    assert code == 0
    assert found['raydistill_job_done{step="train",verb="train"}'] == 6
    assert found['raydistill_job_total{step="train",verb="train"}'] == 6
    assert found['raydistill_job_figure{name="loss",verb="train"}'] > 0
    assert 0 <= found['raydistill_job_figure{name="recall",verb="train"}'] <= 1


def test_a_verb_that_fails_says_so(verb, tmp_path):
    code, found = verb("train", f"root={tmp_path}")
    assert code == 2
    assert found['raydistill_job_exit_code{verb="train"}'] == 2
    assert found['raydistill_job_running{verb="train"}'] == 0


def test_a_verdict_is_the_exit_code_and_a_metric(verb, tmp_path):
    code, found = verb("doctor", f"root={tmp_path}", "release=nowhere", "ray=false", "disk_gib=0")
    assert code == 1
    assert found['raydistill_job_exit_code{verb="doctor"}'] == 1


def test_nothing_is_kept_where_nobody_asked(monkeypatch, tmp_path):
    monkeypatch.delenv(metrics.ASKED, raising=False)
    monkeypatch.chdir(tmp_path)
    with metrics.job("train") as one:
        progress.tell("train", 1, 2, loss=1.0)
        one.told({"a": 1})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv(metrics.ASKED, str(tmp_path / "nowhere"))
    with pytest.raises(SetupError, match="nowhere"), metrics.job("train"):
        pass


def test_figures_are_finite_numbers_by_their_path():
    made = {"all": {"f1": 0.5, "n": 3, "name": "x", "curve": [1, 2]}, "nan": float("nan")}
    assert metrics.flat(made) == {"all.f1": 0.5, "all.n": 3.0}
