"""Building datasets: from tables that change, from files, in parts, and what is refused."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raydistill import build, postgres
from raydistill.dataset import SPLITS, Dataset, split_of
from raydistill.demo import world as demo_world
from raydistill.errors import SetupError
from raydistill.lessons import dedup, reading, review_sheet
from raydistill.lessons.parts import ReadTeacher
from raydistill.lessons.review_sheet import Row
from raydistill.pgread import ReadLost
from raydistill.source import SourceConfig, SourceKind
from raydistill.tasks import FILING_EVENTS

SHARED = Path(__file__).parents[2] / "shared"


def config(tmp_path: Path, source: SourceConfig, **more: Any) -> build.Config:
    more = {"confidence": 0} | more
    return build.Config(
        source=source, out=str(tmp_path / "dataset"), workers=1, vocabulary=600, **more
    )


def execute(dsn: str, sql: str) -> None:
    with postgres.connect(dsn) as connection:
        postgres.script(connection, sql)


def rows_of(made: Dataset) -> list[dict[str, Any]]:
    return [row for split in SPLITS for row in made.table(split).to_pylist()]


def adds_up(made: Dataset) -> bool:
    """Whether every row that was read is kept, merged, rejected or left out, and counted once."""
    a = made.manifest["account"]
    texts = a["sentences"] - a["rejected"] + a.get("without_answer", 0) - a["duplicates"]
    texts -= a["undecided"]
    written = a["chosen"] - a["near_duplicates"] - a["near_straddling"]
    return texts == a["events"] + a["nothing"] + a["no_date"] and a["written"] == written


def assert_disjoint(made: Dataset) -> None:
    """Every split has companies, and no company two splits."""
    groups = [set(made.table(split)["group"].to_pylist()) for split in SPLITS]
    assert all(groups)
    assert sum(len(each) for each in groups) == len(set().union(*groups))


@pytest.fixture
def world(database: str) -> str:
    """A small demo world in PostgreSQL."""
    made = demo_world.world(seed=3, filings=60, companies=60, sentences_per_filing=400)
    demo_world.write(made, database)
    return database


@pytest.mark.postgres
def test_companies_and_near_duplicates_stand_in_one_split_and_the_account_adds_up(
    world: str, tmp_path: Path
) -> None:
    made = build.run(config(tmp_path, SourceConfig(dsn=world)))
    assert_disjoint(made)
    texts = [" ".join(row["text"].split()).casefold() for row in rows_of(made)]
    assert len(set(texts)) == len(texts)
    assert adds_up(made)


@pytest.mark.postgres
def test_the_same_seed_gives_the_same_files_however_many_processes_read(
    world: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = build.run(config(tmp_path / "a", SourceConfig(dsn=world)))
    monkeypatch.setattr(
        "raydistill.lessons.reading.BUCKET_ROWS", 500
    )  # many buckets instead of one
    monkeypatch.setattr("raydistill.build.SHARD_ROWS", 300)
    many = build.run(config(tmp_path / "b", SourceConfig(dsn=world)))
    assert len(list((many.folder / "train").iterdir())) > 1
    for split in SPLITS:
        assert many.table(split).equals(one.table(split))


@pytest.mark.postgres
def test_nothing_is_taken_from_filings_that_the_teacher_has_not_finished(
    world: str, tmp_path: Path
) -> None:
    query = "SELECT sentence_id FROM kee.sentences JOIN kee.filings USING (filing_id) WHERE"
    unread = {id for (id,) in postgres.fetch(world, f"{query} teacher_done_at IS NULL")}
    said = {id for (id,) in postgres.fetch(world, "SELECT sentence_id FROM kee.events")}
    for number, sample in enumerate((0, 60)):
        made = build.run(
            config(tmp_path / str(number), SourceConfig(dsn=world), negatives=50.0, sample=sample)
        )
        silent = {row["id"] for row in rows_of(made) if not row["keep"]}
        assert unread
        assert len(silent) > 1000
        assert not silent & unread
        assert not silent & said


@pytest.mark.postgres
def test_rows_updated_and_deleted_while_they_are_read_are_those_of_the_snapshot(
    world: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm = build.run(config(tmp_path / "calm", SourceConfig(dsn=world), negatives=50.0))
    monkeypatch.setattr("raydistill.lessons.rows.RANGE_ROWS", 200)
    read, disturbed = ReadTeacher.__call__, []

    def disturbing(step: ReadTeacher, numbered: tuple[int, Any]) -> int:
        if not disturbed:  # between the first range and the others: rows move, vanish and change
            disturbed.append(read(step, numbered))
            execute(
                world,
                "UPDATE kee.events SET sentence = 'changed', event_type = 'changed';"
                "DELETE FROM kee.events WHERE event_id % 3 = 0;"
                "UPDATE kee.sentences SET sentence = 'changed';"
                "DELETE FROM kee.sentences WHERE position % 2 = 0;"
                "UPDATE kee.filings SET teacher_done_at = NULL",
            )
            return disturbed[0]
        return read(step, numbered)

    monkeypatch.setattr(ReadTeacher, "__call__", disturbing)
    made = build.run(config(tmp_path / "busy", SourceConfig(dsn=world), negatives=50.0))
    assert disturbed
    assert not postgres.fetch(world, "SELECT 1 FROM kee.sentences WHERE sentence <> 'changed'")
    for split in SPLITS:
        assert made.table(split).equals(calm.table(split))


@pytest.mark.postgres
def test_a_read_whose_connections_are_cut_starts_again_and_misses_nothing(
    world: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calm = build.run(config(tmp_path / "calm", SourceConfig(dsn=world)))
    monkeypatch.setattr("raydistill.lessons.reading._WAIT_S", 0.1)
    read, cut = ReadTeacher.__call__, []

    def cutting(step: ReadTeacher, numbered: tuple[int, Any]) -> int:
        if not cut:
            cut.append(True)
            kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            postgres.fetch(world, f"{kill} WHERE application_name = 'raydistill snapshot'")
        return read(step, numbered)

    monkeypatch.setattr(ReadTeacher, "__call__", cutting)
    made = build.run(config(tmp_path / "cut", SourceConfig(dsn=world)))
    assert made.manifest["restarts"] == 1
    assert "read again from the start" in capsys.readouterr().out
    assert made.fingerprint == calm.fingerprint


@pytest.mark.postgres
def test_a_read_that_is_always_lost_ends_with_that_error_and_no_dataset(
    world: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raydistill.lessons.reading._WAIT_S", 0.0)
    tried = []

    def lost(step: ReadTeacher, numbered: tuple[int, Any]) -> int:
        tried.append(numbered)
        raise ReadLost("cut")

    monkeypatch.setattr(ReadTeacher, "__call__", lost)
    with pytest.raises(ReadLost):
        build.run(config(tmp_path, SourceConfig(dsn=world)))
    assert len(tried) == reading.ATTEMPTS
    assert list(tmp_path.iterdir()) == []


@pytest.mark.postgres
def test_boilerplate_hard_and_easy_negatives_come_in_the_stated_shares(
    world: str, tmp_path: Path
) -> None:
    shares = {"negatives": 1.0, "hard": 0.4, "boilerplate": 0.2, "repeats": 3}
    made = build.run(config(tmp_path, SourceConfig(dsn=world), **shares))
    counts = made.manifest["counts"].values()
    kinds = {k: sum(each[k] for each in counts) for k in ("boilerplate", "hard", "easy", "events")}
    for kind, share in (("boilerplate", 0.2), ("hard", 0.4), ("easy", 0.4)):
        assert kinds[kind] / kinds["events"] == pytest.approx(share, abs=0.1)


@pytest.mark.postgres
def test_after_a_date_rows_are_test_and_before_it_they_are_not(world: str, tmp_path: Path) -> None:
    ((middle,),) = postgres.fetch(
        world, "SELECT percentile_disc(0.7) WITHIN GROUP (ORDER BY filed_at)::text FROM kee.filings"
    )
    split = build.SplitConfig(after=middle)
    made = build.run(config(tmp_path, SourceConfig(dsn=world), split=split))
    dates = postgres.fetch(
        world,
        "SELECT sentence_id, filed_at::text FROM kee.sentences JOIN kee.filings USING (filing_id)",
    )
    day = dict(dates)
    for name in SPLITS:
        found = [day[id] >= middle for id in made.table(name)["id"].to_pylist()]
        assert found
        assert all(late == (name == "test") for late in found)


@pytest.mark.postgres
def test_a_view_without_blocks_or_keys_gives_what_its_table_gives(
    world: str, tmp_path: Path
) -> None:
    whole = build.run(config(tmp_path / "table", SourceConfig(dsn=world)))
    execute(world, "CREATE VIEW kee.said AS SELECT * FROM kee.events")
    source = SourceConfig(dsn=world)
    source.events.table = "kee.said"
    made = build.run(config(tmp_path / "view", source))
    assert made.fingerprint == whole.fingerprint


@pytest.mark.postgres
def test_a_raw_column_is_read_instead_of_the_fields(world: str, tmp_path: Path) -> None:
    whole = build.run(config(tmp_path / "fields", SourceConfig(dsn=world)))
    source = SourceConfig(dsn=world)
    source.events.columns["raw"] = "raw"
    made = build.run(config(tmp_path / "raw", source))
    assert made.manifest["rejects"] == {}
    for split in SPLITS:
        assert made.table(split).equals(whole.table(split))


@pytest.mark.postgres
def test_events_that_a_filter_leaves_out_make_no_sentence_a_negative(
    world: str, tmp_path: Path
) -> None:
    left_out = "event_type = 'declared_dividend'"
    said = f"SELECT DISTINCT sentence_id, sentence FROM kee.events WHERE {left_out}"
    ids, texts = zip(*postgres.fetch(world, said), strict=True)
    # One of them also stands in other filings, in which the teacher found nothing.
    execute(
        world,
        "INSERT INTO kee.sentences SELECT 'copy' || filing_id, filing_id, 9999, upper($$"
        f"{texts[0]}$$) FROM kee.filings WHERE teacher_done_at IS NOT NULL",
    )
    # Rows that say that there is no event are none.
    execute(
        world,
        "INSERT INTO kee.events (event_id, sentence_id, filing_id, sentence, model, created_at,"
        " raw) SELECT -1, 'x', filing_id, 'Nothing of note happened on that day.', model, now(),"
        " raw FROM kee.events LIMIT 1;"
        "INSERT INTO kee.sentences SELECT 'quiet', filing_id, 9998,"
        " 'Nothing of note happened on that day.' FROM kee.events LIMIT 1",
    )
    source = SourceConfig(dsn=world)
    source.events.where = f"NOT ({left_out}) -- {{not a hole}}"
    made = build.run(config(tmp_path, source, negatives=50.0))
    rows = rows_of(made)
    assert not [row for row in rows if "declared_dividend" in row["answer"]]
    silent = {row["id"] for row in rows if not row["keep"]}
    assert len(silent) > 1000
    assert not silent & set(ids)
    quiet = {row["text"].casefold() for row in rows if not row["keep"]}
    assert not quiet & {text.casefold() for text in texts}
    assert "quiet" in silent
    account = made.manifest["account"]
    assert account["left_out"] == len(ids)
    assert account["undecided"] > 40
    assert adds_up(made)


@pytest.mark.postgres
def test_a_filter_of_sentences_or_filings_narrows_what_is_taken_as_negative(
    world: str, tmp_path: Path
) -> None:
    source = SourceConfig(dsn=world)
    source.sentences.where = "position % 2 = 0"
    source.filings.where = "filing_id < (SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY"
    source.filings.where += " filing_id) FROM kee.filings)"
    made = build.run(config(tmp_path, source, negatives=50.0))
    query = "SELECT sentence_id FROM kee.sentences WHERE filing_id IN (SELECT filing_id FROM"
    query += f" kee.filings WHERE teacher_done_at IS NOT NULL AND {source.filings.where})"
    left = {id for (id,) in postgres.fetch(world, f"{query} AND position % 2 = 0")}
    said = {id for (id,) in postgres.fetch(world, "SELECT sentence_id FROM kee.events")}
    silent = {row["id"] for row in rows_of(made) if not row["keep"]}
    assert len(silent) > 1000
    assert silent <= left - said
    known = {id for (id,) in postgres.fetch(world, query)}
    assert {row["id"] for row in rows_of(made) if row["keep"]} <= known & said
    assert adds_up(made)


@pytest.mark.postgres
def test_a_missing_column_is_named(world: str, tmp_path: Path) -> None:
    source = SourceConfig(dsn=world)
    source.events.columns["subject"] = "who"
    with pytest.raises(SetupError, match="no column who"):
        build.run(config(tmp_path, source))


# ------------------------------------------------------------------ files

EVENT = {
    "event_type": "dismissed_auditor",
    "subject": "Acme",
    "object": "KPMG",
    "magnitude_class": "major",
    "timing": "definitive",
    "sentiment": "negative",
    "materiality": "material",
    "confidence": 9,
    "date_confidence": 0,
    "event_date": None,
}


def lines(count: int = 300) -> list[dict[str, Any]]:
    """Rows as teachers leave them in files: a third with an event."""
    rows = []
    for n in range(count):
        word = f"item{n} matter{n * 7} case{n * 13} note{n * 17}"
        event = n % 3 == 0
        text = f"{word} Acme dismissed KPMG as auditor of {word}" if event else f"{word} is {word}"
        output = {"events": [EVENT]} if event else {"skip": True}
        rows.append({"id": str(n), "input": text, "task": "filing_events", "output": output,
                     "company": f"c{n % 40}"})  # fmt: skip
    return rows


def write_lines(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def from_files(tmp_path: Path, path: Path, **more: Any) -> Dataset:
    source = SourceConfig(kind=SourceKind.rows, path=str(path))
    return build.run(config(tmp_path, source, recall=0.9, **more))


def test_json_lines_parquet_and_a_datasets_folder_give_the_same_rows(tmp_path: Path) -> None:
    rows = [row | {"output": json.dumps(row["output"])} for row in lines()]
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=100)
    folder = tmp_path / "saved"
    folder.mkdir()
    file = str(folder / "data-00000-of-00001.arrow")
    with pa.OSFile(file, "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=70)
    paths = [write_lines(tmp_path / "rows.jsonl", lines()), tmp_path / "rows.parquet", folder]
    made = [from_files(tmp_path / str(n), path) for n, path in enumerate(paths)]
    assert len(rows_of(made[0])) == 300
    assert len({one.fingerprint for one in made}) == 1


def test_copies_with_different_labels_go_with_the_majority_and_the_audit_says_so(
    tmp_path: Path,
) -> None:
    rows = lines()
    wrong = [{**rows[0], "id": "w", "output": {"skip": True}, "company": "c1"}]
    right = [{**rows[0], "id": f"r{n}", "company": f"c{n}"} for n in range(3)]
    made = from_files(tmp_path, write_lines(tmp_path / "rows.jsonl", rows + wrong + right))
    assert made.manifest["account"]["contradictory_texts"] == 1
    assert made.manifest["account"]["contradictory_event_or_not"] == 1
    (kept,) = [row for row in rows_of(made) if row["text"] == rows[0]["input"]]
    assert kept["keep"]
    assert kept["weight"] == 4.0
    written = (made.folder / "audit.jsonl").read_text().splitlines()
    suspects = [json.loads(line) for line in written]
    assert [one["reasons"][0] for one in suspects if one["text"] == rows[0]["input"]] == [
        "1 of 5 copies are labelled otherwise"
    ]
    assert rows[0]["input"] in (made.folder / "audit.html").read_text()


def test_what_cannot_be_saved_is_kept_with_its_code_and_its_words(tmp_path: Path) -> None:
    bad = [
        {"id": "a", "input": "Acme sold a plant.", "output": "no idea", "company": "c1"},
        {"id": "b", "input": "Acme sold it.", "output": [EVENT | {"timing": "never"}]},
        {"id": "c", "input": "  ", "output": {"skip": True}},
        {"id": "d", "input": "What?", "output": {"skip": True}, "task": "query_kind"},
    ]
    file = write_lines(tmp_path / "rows.jsonl", [*lines(), *bad])
    with file.open("a") as stream:
        stream.write("{broken\n")
    made = from_files(tmp_path, file)
    rejects = pq.read_table(made.folder / "rejects.parquet").to_pylist()
    assert {one["id"][:4]: one["code"] for one in rejects} == {
        "a": "no_json", "b": "unknown_choice", "c": "empty_sentence", "d": "other_task",
        "rows": "bad_json",
    }  # fmt: skip
    assert {one["id"]: one["raw"] for one in rejects}["a"] == "no idea"
    assert made.manifest["rejects"]["no_json"] == 1
    assert adds_up(made)


def test_types_are_renamed_by_the_merge_map_before_they_are_counted(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "rows.jsonl", lines())
    made = from_files(tmp_path, file, merge={"dismissed_auditor": "changed_auditor"})
    answers = [row["answer"] for row in rows_of(made) if row["keep"]]
    assert all('"event_type":"changed_auditor"' in answer for answer in answers)
    assert (
        (made.folder / "types.csv")
        .read_text()
        .splitlines()[1]
        .startswith("event_type,changed_auditor,100,")
    )


def test_answers_below_the_confidence_floor_become_neither_events_nor_negatives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = lines()
    for n in range(0, 60, 3):
        rows[n]["output"] = {"events": [EVENT | {"confidence": 5}]}
    copy = rows[0]["input"].upper()  # another copy, of which the teacher said nothing
    rows.append({"id": "copy", "input": copy, "output": {"skip": True}, "company": "c9"})
    file = write_lines(tmp_path / "rows.jsonl", rows)
    assert from_files(tmp_path / "off", file, confidence=0).manifest["rejects"] == {}
    source = SourceConfig(kind=SourceKind.rows, path=str(file))
    settings = build.Config(
        source=source, out=str(tmp_path / "on"), workers=1, vocabulary=600, recall=0.9
    )
    made = build.run(settings)
    assert made.manifest["rejects"] == {"low_confidence": 20}
    assert made.manifest["filters"]["confidence"] == 8
    assert "20 sentences below 8 are left out" in capsys.readouterr().out
    found = {row["text"].casefold() for row in rows_of(made)}
    assert not found & {row["input"].casefold() for row in rows[:60:3]}
    assert adds_up(made)


def signed(sheet: Path, shown: list[Row], changes: list[dict[str, str] | None]) -> Path:
    """A sheet of these rows; ann has changed and signed each that has changes."""
    review_sheet.write_csv(sheet, shown, FILING_EVENTS)
    with sheet.open(newline="", encoding="utf-8-sig") as stream:
        said = list(csv.DictReader(stream))
    for line, change in zip(said, changes, strict=True):
        if change is not None:
            line |= {"reviewer": "ann", "reviewed_at": "2026-01-02", **change}
    with sheet.open("w", newline="", encoding="utf-8") as stream:
        out = csv.DictWriter(stream, list(said[0]))
        out.writeheader()
        out.writerows(said)
    return sheet


def test_corrections_override_the_teacher_its_floor_and_its_copies_and_are_accounted(
    tmp_path: Path,
) -> None:
    rows = lines()
    rows[0]["output"] = {"events": [EVENT | {"confidence": 3}]}  # below the floor
    rows.append({**rows[3], "id": "copy"})  # of a sentence that people say states nothing
    file = write_lines(tmp_path / "rows.jsonl", rows)
    sheet = tmp_path / "sheet.csv"
    answers = [FILING_EVENTS.render(FILING_EVENTS.parse(json.dumps(r["output"]))) for r in rows]
    shown = [Row(r["id"], r["company"], r["input"], answers[n], "s", 1) for n, r in enumerate(rows)]
    changes = [{"object": "Acme"}, {"event_type": ""}, None]
    signed(sheet, [shown[0], shown[3], shown[6]], changes)
    plain = from_files(tmp_path / "plain", file, confidence=8)
    made = from_files(tmp_path / "made", file, confidence=8, corrections=[str(sheet)])
    old, new = ({row["text"]: row for row in rows_of(one)} for one in (plain, made))
    assert rows[0]["input"] not in old
    assert '"object":"Acme"' in new[rows[0]["input"]]["answer"]
    assert old[rows[3]["input"]]["keep"]
    assert not new[rows[3]["input"]]["keep"]
    changed = {
        text for text in new if text not in old or new[text]["answer"] != old[text]["answer"]
    }
    assert changed == {rows[0]["input"], rows[3]["input"]}
    assert adds_up(made)
    account = made.manifest["corrections"]
    assert (account["applied"], account["reviewers"]) == (2, {"ann": 2})
    assert {one["id"] for one in account["labels"]} <= {"0", "3", "copy"}


def test_a_correction_holds_for_copies_in_any_case_and_writes_spans_as_they_do(
    tmp_path: Path,
) -> None:
    rows = lines()
    text = rows[3]["input"]
    rows += [{**rows[3], "id": f"loud{n}", "input": text.upper()} for n in range(3)]
    answer = FILING_EVENTS.render(FILING_EVENTS.parse(json.dumps(rows[3]["output"])))
    shown = [Row("3", "c3", text, answer, "s", 1)]
    sheet = signed(tmp_path / "sheet.csv", shown, [{"object": "Acme"}])
    file = write_lines(tmp_path / "rows.jsonl", rows)
    made = from_files(tmp_path, file, corrections=[str(sheet)])
    (kept,) = [row for row in rows_of(made) if row["text"].casefold() == text.casefold()]
    (record,) = FILING_EVENTS.parse(kept["answer"]).records
    assert (kept["text"], record["object"]) == (text.upper(), "ACME")
    assert made.manifest["corrections"]["applied"] == 1


@pytest.mark.postgres
def test_variations_add_copies_to_train_alone_and_none_is_like_a_held_out_sentence(
    world: str, tmp_path: Path
) -> None:
    plain = build.run(config(tmp_path / "plain", SourceConfig(dsn=world)))
    made = build.run(config(tmp_path / "made", SourceConfig(dsn=world), variations=0.5))
    for split in SPLITS:
        ids = made.table(split)["id"].to_pylist()
        assert [i for i in ids if not i.endswith("~v")] == plain.table(split)["id"].to_pylist()
    assert adds_up(made)
    copies = copies_of(made)
    assert len(copies) == made.manifest["variations"]["rows"] > 10
    # The copies happen to be what a company of the test split says.
    filings = postgres.fetch(world, "SELECT filing_id, cik FROM kee.filings ORDER BY 1")
    of_test = next(f for f, c in filings if split_of(c, seed=0, val=0.1, test=0.2) == "test")
    columns = [f.name for f in FILING_EVENTS.fields]
    some = sorted(copies.items())[::2]
    with postgres.connect(world) as connection:
        for at, (id, text) in enumerate(some):
            fields = ", ".join(columns)
            query = (
                f"INSERT INTO kee.events (event_id, sentence_id, filing_id, sentence, {fields},"
                f" model, created_at, raw) SELECT -1 - {at}, 'held{at}', $${of_test}$$,"
                f" $${text.upper()}$$, {fields}, model, created_at, raw FROM kee.events"
                f" WHERE sentence_id = $${id.removesuffix('~v')}$$ LIMIT 1"
            )
            postgres.script(connection, query)
    again = build.run(config(tmp_path / "again", SourceConfig(dsn=world), variations=0.5))
    assert again.manifest["variations"]["dropped"] > 5
    held_out = {text.casefold() for name in ("val", "test") for text in texts_of(again, name)}
    assert held_out >= {text.casefold() for _, text in some}
    assert not held_out & {text.casefold() for text in copies_of(again).values()}
    assert adds_up(again)


def texts_of(made: Dataset, split: str) -> list[str]:
    return made.table(split)["text"].to_pylist()


def copies_of(made: Dataset) -> dict[str, str]:
    """The texts of varied copies by their ids, all of them in train."""
    found = {row["id"]: row["text"] for row in rows_of(made) if row["id"].endswith("~v")}
    assert set(found) <= set(made.table("train")["id"].to_pylist())
    return found


def test_a_build_whose_splits_share_near_duplicates_stops_and_leaves_no_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A search that compares next to nothing, and so misses most of them.
    monkeypatch.setattr(dedup, "_ROUNDS", 0)
    monkeypatch.setattr(dedup, "_WINDOW", 2)
    long = " ".join(f"word{n}" for n in range(40))
    same = [
        {**row, "id": f"same{n}", "input": f"{long} {n}"} for n, row in enumerate(lines(120)[::3])
    ]
    file = write_lines(tmp_path / "rows.jsonl", lines() + same)
    with pytest.raises(SetupError, match="near-duplicates stand in two splits"):
        from_files(tmp_path, file)
    assert [one.name for one in tmp_path.iterdir()] == ["rows.jsonl"]


def test_a_sample_is_a_part_of_every_larger_sample(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "rows.jsonl", lines(900))
    small, large = (
        {row["id"] for row in rows_of(from_files(tmp_path / str(n), file, sample=n))}
        for n in (300, 600)
    )
    assert small < large
    assert abs(len(small) - 300) < 75
    assert abs(len(large) - 600) < 75


def test_a_file_without_the_columns_or_a_missing_file_is_refused(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "rows.jsonl", [{"question": "?", "reply": "!"}])
    with pytest.raises(SetupError, match="question, reply"):
        from_files(tmp_path, file)
    with pytest.raises(SetupError, match="no rows at"):
        from_files(tmp_path, tmp_path / "nothing")
    with pytest.raises(SetupError, match="is empty"):
        from_files(tmp_path, write_lines(tmp_path / "empty.jsonl", []))


def test_rows_without_an_answer_are_refused(tmp_path: Path) -> None:
    rows = [row for row in lines() if row["output"] == {"skip": True}]
    with pytest.raises(SetupError, match="gives no answer"):
        from_files(tmp_path, write_lines(tmp_path / "rows.jsonl", rows))


@pytest.mark.shared
@pytest.mark.slow
def test_real_labels_build_without_an_unexplained_reject(tmp_path: Path) -> None:
    labels = SHARED / "teacher" / "labels.jsonl"
    if not labels.is_file():
        pytest.skip(f"{labels} is absent")
    corpus = SHARED / "corpus" / "sentences.parquet"
    source = SourceConfig(kind=SourceKind.rows, path=str(labels))
    made = build.run(config(tmp_path, source, corpus=str(corpus), negatives=10.0))
    account = made.manifest["account"]
    assert made.manifest["rejects"] == {}
    assert account["sentences"] == account["teacher_rows"] == 10_812
    assert adds_up(made)
    assert account["written"] > 10_500
    assert_disjoint(made)
    held = made.manifest["prefilter"]["held_out"]
    assert held["events"] > 100
    assert held["low"] <= held["recall"] <= held["high"]
    assert 0 < made.manifest["prefilter"]["corpus"]["rejected"] < 1
