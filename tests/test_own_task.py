"""A task of another domain, in the words of docs/own-task.md, goes the whole way."""

import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from raydistill import postgres
from raydistill.__main__ import main
from raydistill.errors import SetupError
from raydistill.tasks import TASKS

PAGE = Path(__file__).parents[1] / "docs" / "own-task.md"
BLOCK = re.compile(r'^```\w+ title="([^"]+)"\n(.*?)^```$', re.M | re.S)
SHAPE = "student.width=64 student.layers=1 student.heads=2 student.max_input=64"
TINY = {
    "build": "split.val=0.2 split.test=0.2 vocabulary=600 positions=64 workers=1 dedup=false",
    "skip_s": f"{SHAPE} fit.steps=40 fit.batch_tokens=2000 workers=0 threads=1",
    "seq2seq_s": f"{SHAPE} student.max_output=48 fit.steps=200 fit.batch_tokens=2000 invented=0"
    " joined=0 fit.bf16=false workers=0 threads=1",
    "publish": "parity=0.5 parity_rows=50 threads=1",
    "evaluate": "threads=1 draws=50",
    "backfill": "scale.actors=1 scale.chunk=3000",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The files of the page, in a folder of their own that we are in."""
    blocks = dict(BLOCK.findall(PAGE.read_text()))
    for name in ("invoices.py", "letters.py", "my_conf/source/letters.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(blocks[name])
    (tmp_path / "commands").write_text(blocks["whole way"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("invoices", None)


def test_the_task_of_the_page_takes_thirty_lines(folder):
    assert len((folder / "invoices.py").read_text().splitlines()) <= 30
    task = TASKS["invoices:INVOICES"]
    assert task.parse(task.render(task.answer([{"kind": "credit", "due": "2024-01-31"}])))


def test_a_task_that_is_not_there_is_named(folder):
    for name in ("nowhere:INVOICES", "invoices:NONE", "invoices:Choice", "poems"):
        with pytest.raises(SetupError, match=name):
            TASKS[name]


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.postgres
def test_a_task_of_another_domain_goes_the_whole_way(folder, database, monkeypatch):
    for line in (folder / "commands").read_text().splitlines():
        program, *words = shlex.split(line)
        if program == "python":
            monkeypatch.setattr(sys, "argv", [*words, database])
            runpy.run_path(words[0], run_name="__main__")
            continue
        small = TINY[words[0] if words[0] in TINY else words[1].removeprefix("student=")].split()
        if "source=letters" in words:
            small.append(f"source.dsn='{database}'")
        if words[0] == "backfill":  # Ray's own warnings would be errors in this process
            command = [sys.executable, "-m", "raydistill", *words, *small]
            environment = {**os.environ, "PYTHONPATH": str(PAGE.parents[1])}
            subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
            continue
        monkeypatch.setattr(sys, "argv", [program, *words, *small])
        main()
    rows = postgres.fetch(
        database, "SELECT kind, payee, sentence, payee_start, payee_end FROM raydistill.payments"
    )
    assert len(rows) > 50
    for kind, payee, sentence, start, end in rows:
        assert kind in ("invoice", "reminder", "credit")
        assert payee is None or start is None or sentence[start:end] == payee
    ((done,),) = postgres.fetch(database, "SELECT count(*) FROM raydistill.ledger")
    assert done == 600
    report = json.loads((folder / "runs/report/report.json").read_text())
    assert report["extractor"]["all"]["f1"] > 0.5
