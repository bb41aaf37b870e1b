import json
import runpy
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from raydistill import drift, events, postgres
from raydistill.chunk import marked
from raydistill.pipeline import Cascade
from raydistill.proof import stability
from raydistill.proof.judge import sentences
from raydistill.source import SourceConfig


def test_equal_distributions_have_an_index_of_0_and_moved_ones_more():
    one = Counter(a=500, b=300, c=200)
    assert stability.psi(one, Counter(a=1000, b=600, c=400)) == pytest.approx(0, abs=1e-3)
    assert stability.psi(one, Counter(a=450, b=330, c=220)) < 0.1
    assert stability.psi(one, Counter(a=200, b=300, c=500)) > 0.25
    assert stability.psi(one, Counter(d=1000)) > 0.25


def test_the_index_is_that_of_its_formula():
    p, q = np.array([60.5, 40.5]) / 101, np.array([30.5, 70.5]) / 101
    found = stability.psi({"x": 60, "y": 40}, {"x": 30, "y": 70})
    assert found == pytest.approx(float(((q - p) * np.log(q / p)).sum()))


def test_rare_values_are_one_bin():
    many = Counter({f"type {n}": 1000 - n for n in range(100)})
    left, right = stability.binned(many, Counter({"new": 5}))
    assert len(left) == stability.HEAD + 1
    assert right == {"(rare or new)": 5}


@pytest.mark.postgres
def test_a_week_like_training_is_stable_and_another_world_is_not(tiny, database, tmp_path, capsys):
    task, release = tiny.release.task, tiny.release
    rows = tiny.dataset.table("train").slice(0, 4000)
    out = Cascade(release, threads=1)(marked(sentences(rows)))
    events.prepare(database, task)
    events.commit(database, events.rows(out, task), task, release=release.name, run="r")
    config = drift.Config(
        source=SourceConfig(dsn=database), dataset=str(tiny.dataset.folder),
        release=str(release.folder), out=str(tmp_path), min_events=50, limit=0.5,
    )  # fmt: skip
    made = drift.run(config)
    assert made["found"]["event_type"]["psi"] < 0.5
    assert made["verdict"] == "stable"
    assert "distribution" in capsys.readouterr().out
    config.quiet = True
    drift.run(config)
    assert capsys.readouterr().out == ""
    with postgres.connect(database) as connection:
        postgres.script(
            connection, "UPDATE raydistill.events SET event_type = 'merged', confidence = 1"
        )
    assert {"event_type", "confidence"} <= set(drift.run(config)["drifted"])
    assert "drifted" in capsys.readouterr().out
    lines = [json.loads(line) for line in (tmp_path / "drift.jsonl").read_text().splitlines()]
    assert [one["verdict"] for one in lines] == ["stable", "stable", "drifted"]
    assert lines[2]["psi"]["confidence"] > 0.5


@pytest.mark.postgres
def test_the_job_tells_cron_by_its_exit_code(tiny, database, tmp_path, monkeypatch, capsys):
    events.prepare(database, tiny.release.task)
    settings = [f"source.dsn='{database}'", f"dataset={tiny.dataset.folder}"]
    settings += [f"release={tiny.release.folder}", f"out={tmp_path}"]
    for extra, code in (([], 3), (["release=nowhere"], 2)):
        monkeypatch.setattr(sys, "argv", ["jobs/drift.py", *settings, *extra])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(
                str(Path(__file__).parents[1] / "jobs" / "drift.py"), run_name="__main__"
            )
        assert ended.value.code == code
    assert "0 events" in capsys.readouterr().out
