"""Structured logs: each line one object that says when, which verb and which run."""

import io
import json
import subprocess
import sys
from pathlib import Path

from raydistill import logs

ROOT = Path(__file__).parents[1]


def test_a_line_becomes_one_object_with_what_it_is_about():
    out = io.StringIO()
    stream = logs.JsonLines(out, verb="backfill")
    stream.write("1 of 2")
    assert out.getvalue() == ""
    stream.write(" filings\n\n")
    stream.put(chunk="A-1")
    first, second = map(json.loads, out.getvalue().splitlines())
    assert first["text"] == "1 of 2 filings"
    assert first["verb"] == second["verb"] == "backfill"
    assert second["chunk"] == "A-1"
    assert first["at"] <= second["at"]


def test_a_verb_speaks_json_where_it_is_asked_to(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "jobs/train.py"), "dataset=nowhere"],
        env={"RAYDISTILL_LOG": "json", "PATH": "", "PYTHONPATH": str(ROOT)},
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    lines = [json.loads(line) for line in (done.stdout + done.stderr).splitlines()]
    assert any("dataset.json is missing" in line["text"] for line in lines)
    assert {line["verb"] for line in lines} == {"train"}
