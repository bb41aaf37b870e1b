"""Labelling against a real server and a real PostgreSQL, both of which misbehave at times."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from raydistill import label, postgres
from raydistill.demo.world import DDL
from raydistill.errors import SetupError
from raydistill.label import Config, EndpointConfig, PriceConfig
from raydistill.lessons import labelled
from raydistill.lessons.labelled import raw_json
from raydistill.source import SourceConfig
from tests.openai_server import Says, serving

ROOT = Path(__file__).parents[1]
EVENT = {
    "event_type": "dismissed_auditor", "subject": "The Company", "object": "KPMG LLP",
    "magnitude_class": "major", "timing": "definitive", "sentiment": "negative",
    "materiality": "material", "confidence": 9, "date_confidence": 0, "event_date": None,
}  # fmt: skip
SKIP = '{"skip": true}'


def answer(prompt: str) -> str:
    """A teacher that finds an event in each sentence about an auditor, and wraps it in prose."""
    if "KPMG" in prompt:
        return "Here it is:\n```json\n" + json.dumps({"events": [EVENT]}) + "\n```"
    return SKIP


def fill(dsn: str, filings: int = 3, sentences: int = 10) -> None:
    """Filings without answers; sentence 4 of each has an event, sentence 7 has no text."""
    with postgres.connect(dsn) as connection:
        postgres.script(connection, DDL)
        names = [f"f{n}" for n in range(filings)]
        postgres.script(
            connection,
            "INSERT INTO kee.filings SELECT 'f' || n, '00' || n, 'Acme', '8-K', '2020-01-01', NULL"
            f" FROM generate_series(0, {filings - 1}) n",
        )
        text = {4: "The Company dismissed KPMG LLP.", 7: "  "}
        rows = [
            {"sentence_id": f"{f}#{n}", "filing_id": f, "position": n,
             "sentence": text.get(n, f"Sentence {n} of {f} is quiet.")}
            for f in names for n in range(sentences)
        ]  # fmt: skip
        postgres.copy_in(connection, "kee.sentences", pa.Table.from_pylist(rows))


def config(dsn: str, url: str, **settings: Any) -> Config:
    quick = {"first_wait_s": 0.01, "most_wait_s": 0.02, "timeout_s": 5.0, "concurrency": 4}
    endpoint = EndpointConfig(url=url, model="big", **quick | settings.pop("endpoint", {}))
    return Config(source=SourceConfig(dsn=dsn), endpoint=endpoint, **settings)


def state(dsn: str) -> tuple[int, int, int]:
    """Events, finished filings, valid ledger rows."""
    query = (
        "SELECT (SELECT count(*) FROM kee.events),"
        " (SELECT count(*) FROM kee.filings WHERE teacher_done_at IS NOT NULL),"
        " (SELECT count(*) FROM raydistill.labelled WHERE code IS NULL)"
    )
    ((events, filings, valid),) = postgres.fetch(dsn, query)
    return events, filings, valid


@pytest.mark.postgres
def test_answers_become_teacher_rows_and_finished_filings(database: str) -> None:
    fill(database)
    with serving(lambda n, prompt: Says(answer(prompt))) as server:
        account = label.run(config(database, server.url))
        assert len(server.requests) == 27  # sentences without text are not asked
        again = label.run(config(database, server.url))
        assert len(server.requests) == 27
    assert state(database) == (3, 3, 27)
    assert account["codes"] == {"valid": 27}
    assert (account["input_tokens"], account["output_tokens"]) == (2700, 270)
    assert again["codes"] == {}
    query = (
        "SELECT sentence_id, sentence, event_type, object, confidence, event_date, model, raw"
        " FROM kee.events ORDER BY 1"
    )
    row = postgres.fetch(database, query)[0]
    assert row[:7] == (
        "f0#4", "The Company dismissed KPMG LLP.", "dismissed_auditor", "KPMG LLP", 9, None, "big",
    )  # fmt: skip
    assert "dismissed_auditor" in row[7]  # as it was written, prose and all


@pytest.mark.postgres
def test_a_server_that_fails_at_times_changes_nothing(database: str) -> None:
    fill(database, filings=4)
    trouble = [
        Says(status=429, headers={"Retry-After": "0.05"}), Says(status=500), Says(cut=True),
        Says(body=b"garbage"), Says(status=503),
    ]  # fmt: skip

    def says(number: int, prompt: str) -> Says:
        return trouble[number % 5] if number % 3 == 0 else Says(answer(prompt))

    with serving(says) as server:
        account = label.run(config(database, server.url, commit=5, endpoint={"tries": 20}))
        assert len(server.requests) > 36
    assert state(database) == (4, 4, 36)
    assert account["codes"] == {"valid": 36}


@pytest.mark.postgres
def test_invalid_answers_are_kept_with_their_code_and_asked_once_more(database: str) -> None:
    fill(database, filings=1)
    bad = {"Sentence 2": "I cannot help with that.\0", "Sentence 3": '{"events": [{"timing": "'}

    def says(number: int, prompt: str) -> Says:
        wrong = next((text for part, text in bad.items() if part in prompt), None)
        return Says(wrong or answer(prompt))

    with serving(says) as server:
        account = label.run(config(database, server.url))
        assert account["codes"] == {"valid": 7, "no_json": 1, "cut_short": 1}
        query = "SELECT code, answer FROM raydistill.labelled WHERE code IS NOT NULL ORDER BY 1"
        assert postgres.fetch(database, query) == [
            ("cut_short", bad["Sentence 3"]),
            ("no_json", "I cannot help with that.\ufffd"),
        ]
        assert state(database) == (1, 0, 7)  # not finished: two sentences have no answer
        del bad["Sentence 2"]
        assert label.run(config(database, server.url))["codes"] == {"valid": 1, "cut_short": 1}
        bad.clear()
        assert label.run(config(database, server.url))["codes"] == {}  # asked twice, no more
        assert state(database) == (1, 0, 8)
        label.run(config(database, server.url, attempts=3))
    assert state(database) == (1, 1, 9)


@pytest.mark.postgres
def test_a_run_that_is_killed_goes_on_without_loss_or_doubling(
    database: str, tmp_path: Path
) -> None:
    fill(database, filings=6)
    driver: list[subprocess.Popen[bytes]] = []

    def says(number: int, prompt: str) -> Says:
        if number == 30:
            driver[0].kill()
        return Says(answer(prompt))

    with serving(says) as server:
        command = [
            sys.executable, str(ROOT / "jobs/label.py"), f"source.dsn='{database}'", "commit=4",
            f"endpoint.url={server.url}", "endpoint.model=big", f"hydra.run.dir={tmp_path}",
            "endpoint.key_env=LABEL_TEST_KEY", f"root={tmp_path}",
        ]  # fmt: skip
        environment = {**os.environ, "LABEL_TEST_KEY": "sk-very-secret"}
        driver.append(subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL))
        assert driver[0].wait(60) == -9
        between = state(database)
        asked = len(server.requests)
        assert 0 < between[2] < 54
        done = subprocess.run(command, env=environment, capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr.decode()
        told = done.stdout + done.stderr
        assert b"sk-very-secret" not in told
        assert not any(
            "sk-very-secret" in one.read_text() for one in tmp_path.rglob("*") if one.is_file()
        )
        assert set(server.keys) == {"Bearer sk-very-secret"}
        assert len(server.requests) - asked == 54 - between[2]  # what was committed is not asked
    assert state(database) == (6, 6, 54)


@pytest.mark.postgres
def test_an_endpoint_that_is_gone_stops_the_run_and_costs_no_attempt(database: str) -> None:
    fill(database)
    stops = pytest.raises(SetupError, match="5 requests in a row got no answer")
    with serving(lambda n, prompt: Says(status=500)) as server, stops:
        label.run(config(database, server.url, give_up=5, endpoint={"tries": 1}))
    assert postgres.fetch(database, "SELECT count(*) FROM raydistill.labelled") == [(0,)]
    with serving(lambda n, prompt: Says(answer(prompt))) as server:
        label.run(config(database, server.url))
    assert state(database) == (3, 3, 27)


@pytest.mark.postgres
def test_a_sentence_the_server_refuses_is_a_row_with_a_code(database: str) -> None:
    fill(database, filings=1)

    def says(number: int, prompt: str) -> Says:
        return Says(status=400, body=b"{}") if "Sentence 0" in prompt else Says(answer(prompt))

    with serving(says) as server:
        label.run(config(database, server.url, endpoint={"concurrency": 1}))
    query = "SELECT sentence_id, attempts FROM raydistill.labelled WHERE code = 'refused_400'"
    assert postgres.fetch(database, query) == [("f0#0", 1)]


@pytest.mark.postgres
def test_a_plan_asks_nothing_and_a_budget_is_kept(
    database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(database)
    price = PriceConfig(input=1000.0, output=1000.0, answer_tokens=10)
    with serving(lambda n, prompt: Says(answer(prompt))) as server:
        settings = {"price": price, "endpoint": {"requests_per_minute": 27.0}}
        plan = label.run(config(database, server.url, plan=True, **settings))["plan"]
        assert (plan.sentences, plan.filings, plan.measured) == (27, 3, 0)
        assert plan.output_tokens == 270
        assert plan.hours_at_least == pytest.approx(1 / 60)
        assert "27 sentences of 3 filings" in capsys.readouterr().out
        with pytest.raises(SetupError, match="budget=1"):
            label.run(config(database, server.url, price=price, budget=1.0))
        assert server.requests == []
        label.run(config(database, server.url, rows=5))
        assert len(server.requests) == 5
        plan = label.run(config(database, server.url, price=price, plan=True))["plan"]
        assert (plan.sentences, plan.measured, plan.input_tokens) == (22, 5, 2200)
        # 110 tokens an answer at 1,000 a million: 22 of them cost 2.42.
        assert plan.cost == pytest.approx(2.42)


@pytest.mark.postgres
def test_the_users_own_names_and_missing_columns_are_served(database: str) -> None:
    fill(database, filings=1)
    with postgres.connect(database) as connection:
        postgres.script(
            connection,
            'ALTER TABLE kee.events RENAME COLUMN event_type TO "Kind";'
            " ALTER TABLE kee.events DROP COLUMN raw;"
            " ALTER TABLE kee.events ALTER COLUMN event_id ADD GENERATED BY DEFAULT AS IDENTITY",
        )
    names = {"event_id": None, "model": "model", "created_at": "created_at", "raw": None}
    with serving(lambda n, prompt: Says(answer(prompt))) as server:
        settings = config(database, server.url, columns=names)
        settings.source.events.columns["event_type"] = "Kind"
        label.run(settings)
    assert postgres.fetch(database, 'SELECT event_id, "Kind" FROM kee.events') == [
        (1, "dismissed_auditor")
    ]


@pytest.mark.postgres
def test_a_table_of_the_teachers_json_alone_takes_answers_without_the_fields(database: str) -> None:
    fill(database, filings=1)
    with postgres.connect(database) as connection:
        postgres.script(
            connection,
            "DROP TABLE kee.events; CREATE TABLE kee.events (sentence_id text, filing_id text,"
            " sentence text, subject text, answer jsonb)",
        )
    nothing = dict.fromkeys(("event_id", "model", "created_at"))
    with serving(lambda n, prompt: Says(answer(prompt))) as server:
        settings = config(database, server.url, columns=nothing)
        settings.source.events.columns |= {"raw": "answer", "subject": "subject"}
        label.run(settings)
    ((subject, raw),) = postgres.fetch(database, "SELECT subject, answer FROM kee.events")
    assert subject == "The Company"
    assert "dismissed_auditor" in raw


@pytest.mark.postgres
def test_a_missing_column_is_named_with_the_settings_that_help(database: str) -> None:
    fill(database, filings=1)
    settings = config(database, "http://127.0.0.1:9/v1")
    drop = "ALTER TABLE kee.events DROP COLUMN"
    with postgres.connect(database) as connection:
        postgres.script(connection, f"{drop} raw, DROP COLUMN model")
    with pytest.raises(SetupError, match="no column model, raw") as caught:
        label.run(settings)
    assert "columns.NAME=null" in str(caught.value)
    with postgres.connect(database) as connection:
        postgres.script(connection, f"{drop} object")
    with pytest.raises(SetupError, match="no column object") as caught:
        label.run(settings)
    assert "source.events.columns.object=COLUMN" in str(caught.value)
    assert "source.events.columns.raw=COLUMN" in str(caught.value)


@pytest.mark.postgres
def test_a_batch_written_twice_counts_once(database: str) -> None:
    fill(database, filings=1)
    settings = config(database, "http://127.0.0.1:9/v1")
    task = label.TASKS["filing_events"]
    tables = labelled.Tables(database, settings.source, task, "big", settings.columns)
    labelled.prepare(tables)
    sentence = labelled.Sentence("f0#4", "f0", "The Company dismissed KPMG LLP.")
    records = task.answer([EVENT]).records
    batch = [labelled.Labelled(sentence, records, None, "{}", 1, 1)]
    assert labelled.commit(tables, batch)[0] == 1
    assert labelled.commit(tables, batch)[0] == 0
    assert state(database) == (1, 0, 1)


def test_what_a_model_wrote_always_fits_a_jsonb_column() -> None:
    assert json.loads(raw_json('{"a": 1}')) == {"a": 1}
    for text in ("not json", '{"a": NaN}', '{"a": 1e999}', '"\\u0000"', "\0", "\ud800", "[" * 9999):
        told = raw_json(text)
        json.loads(told, parse_constant=lambda name: pytest.fail(name))
        assert "\0" not in told
        assert "\\u0000" not in told or told.startswith('"')
        told.encode()


def test_a_key_that_is_not_set_is_said_before_anything_starts() -> None:
    command = [sys.executable, "jobs/label.py", "endpoint.key_env=NO_SUCH_KEY_HERE"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60)
    assert done.returncode == 2
    assert b"NO_SUCH_KEY_HERE is not set" in done.stderr
