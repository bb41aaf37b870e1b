"""Wrong setups end at once: one message that says what to do, exit code 2, no traceback."""

import json
import shutil
import sys

import pytest

from raydistill import backfill, build, evaluate, postgres, publish, train
from raydistill.config import job
from raydistill.demo.world import DDL
from raydistill.pipeline import Cascade
from raydistill.source import EdgarSentences

VERBS = {
    "backfill": backfill, "build": build, "evaluate": evaluate, "publish": publish, "train": train,
}  # fmt: skip


@pytest.fixture
def fails(monkeypatch, capsys, tmp_path):
    """Runs a verb's command line, expects exit code 2, and gives its message."""

    def run(verb, *overrides):
        monkeypatch.setattr(sys, "argv", [f"jobs/{verb}.py", f"root={tmp_path}", *overrides])
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit) as ended:
            job(verb, VERBS[verb].Config, VERBS[verb].run)
        assert ended.value.code == 2
        said = capsys.readouterr().err
        assert "Traceback" not in said
        return said

    return run


def test_an_unknown_override_names_the_nearest_key(fails):
    assert "negatives" in fails("build", "negativs=3")


def test_a_value_of_the_wrong_type_is_named(fails):
    assert "seed" in fails("build", "seed=abc")
    said = fails("backfill", "scale.actors=two")
    assert "scale.actors" in said
    assert "Integer" in said


def test_a_misspelled_key_of_a_group_and_a_misspelled_choice_name_the_nearest(fails):
    assert "did you mean fit.steps" in fails("train", "fit.stepps=3")
    assert "did you mean source.dsn" in fails("backfill", "source.dns=x")
    assert "did you mean cluster? there are cluster, laptop" in fails("backfill", "scale=clustr")
    said = fails("train", "--multirun", "student=skip_s,seq2sek_s")
    assert "student=seq2sek_s: did you mean seq2seq_s" in said
    assert "student=skip_s:" not in said
    assert "KEY=VALUE" in fails("train", "student.width")


def test_an_unknown_task_names_those_there_are(fails):
    assert "filing_events" in fails("build", "task=poems")


def test_a_missing_dataset_student_or_release_says_which_verb_makes_it(fails):
    assert "run build" in fails("train")
    assert "run train" in fails("publish")
    assert "run build" in fails("evaluate")
    assert "run publish" in fails("backfill")


def test_a_database_that_is_down_is_named(fails):
    said = fails("build", "source.dsn='postgresql://me@127.0.0.1:9/none'")
    assert "127.0.0.1" in said
    assert "source.dsn" in said


def test_a_password_in_the_configuration_is_refused_and_not_repeated(fails, tmp_path):
    said = fails("build", "source.dsn='postgresql://me:secret@127.0.0.1:9/none'")
    assert ".pgpass" in said
    assert "secret" not in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.postgres
def test_empty_and_unfit_tables_are_named(fails, database):
    said = fails("build", f"source.dsn='{database}'")
    assert "kee." in said
    with postgres.connect(database) as connection:
        postgres.script(connection, DDL)
    said = fails("build", f"source.dsn='{database}'")
    assert "kee.events" in said
    with postgres.connect(database) as connection:
        postgres.script(connection, "ALTER TABLE kee.events DROP COLUMN sentiment")
    said = fails("build", f"source.dsn='{database}'")
    assert "sentiment" in said


@pytest.fixture
def copy(tiny, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(tiny.release.folder, folder)
    return folder


def test_a_corrupted_release_is_refused(fails, copy):
    model = copy / "extractor" / "model.bin"
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(bytes(data))
    assert "changed after publishing" in fails("backfill", f"release={copy}")


def test_a_release_of_another_task_is_refused(fails, copy):
    file = copy / "task.json"
    spec = json.loads(file.read_text())
    spec["fields"] = spec["fields"][:-1]
    file.write_text(json.dumps(spec))
    assert "task.json" in fails("backfill", f"release={copy}")


def test_bad_files_become_dead_letters_and_the_rest_goes_on(tiny, tmp_path):
    folder = tmp_path / "filings"
    folder.mkdir()
    (folder / "binary.txt").write_bytes(bytes(range(256)) * 40)
    (folder / "empty.txt").write_bytes(b"")
    (folder / "latin.txt").write_bytes(
        "The Company dismissed Müller as auditor.\n".encode("cp1252")
    )
    (folder / "nul.txt").write_bytes(b"The Company filed\0 a form. " + b"It did. " * 60)
    (folder / "long.txt").write_bytes(b"word " * 250_000)
    source = EdgarSentences(str(folder))
    names = [name for name, _ in source.filings()]
    out = Cascade(tiny.release.folder, threads=1)(source.read(names))
    errors = {row["filing_id"]: row["error"] for row in out.to_pylist() if row["error"]}
    unread = {name for name, code in errors.items() if code in ("binary", "empty", "no_text")}
    assert unread == {"binary.txt", "empty.txt"}  # a tiny student may fail on the others' text
    marks = {row["filing_id"]: row["sentences"] for row in out.to_pylist() if row["id"] is None}
    assert set(marks) == set(names)
    assert marks["latin.txt"] == 1
    assert marks["long.txt"] > 500
