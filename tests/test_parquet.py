"""Parquet in and out: sources of sentences and of whole filings, and a sink that counts once."""

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from raydistill.corpus.parquet_sink import ParquetSink
from raydistill.corpus.stages import Commit, Read, Run, Work, loop
from raydistill.demo.world import world
from raydistill.errors import SetupError
from raydistill.parquet import ParquetSentences
from tests.backfills import Loaded

PARTS = {"release": "one", "source": "parquet here"}


@pytest.fixture
def file(tmp_path):
    made = world(seed=11, filings=12, companies=20, sentences_per_filing=150, event_share=0.1)
    pq.write_table(made.sentences, tmp_path / "in.parquet", row_group_size=200)
    return tmp_path / "in.parquet"


def _sink(tmp_path, release, run="one"):
    made = ParquetSink(str(tmp_path / "out"), release.name, run, "f")
    made.prepare()
    made.enter(PARTS)
    return made


def _work(file, to, release):
    sentences = ParquetSentences(str(file), {})
    return Work(str(release.folder), sentences, to, Loaded(release.folder), patience_s=1.0)


def _events(to):
    table = to._table("events", None).drop_columns(["run"])
    return table.sort_by([("sentence_id", "ascending"), ("ordinal", "ascending")])


def test_rows_of_sentences_are_read_by_filing_in_order(file):
    source = ParquetSentences(str(file), {})
    filings = source.filings()
    whole = pq.read_table(file)
    assert sum(count for _, count in filings) == len(whole)
    some = [filings[3][0], filings[1][0]]
    table = source.read(some)
    rows = table.filter(pc.is_valid(table["id"]))
    theirs = whole.filter(pc.is_in(whole["filing_id"], value_set=pa.array(some)))
    assert sorted(rows["id"].to_pylist()) == sorted(theirs["sentence_id"].to_pylist())
    assert table.filter(pc.is_null(table["id"]))["filing_id"].to_pylist() == some


def test_rows_of_whole_filings_are_split_and_an_empty_one_has_a_code(tmp_path):
    text = "The Company adopted a plan. It was approved by the board on May 1, 2020."
    pq.write_table(
        pa.table({"doc_id": ["a", "b"], "text": [text, " "]}), tmp_path / "whole.parquet"
    )
    source = ParquetSentences(str(tmp_path / "whole.parquet"), {})
    assert [name for name, _ in source.filings()] == ["a", "b"]
    rows = source.read(["a", "b"]).to_pylist()
    told = [row["text"] for row in rows if row["filing_id"] == "a"]
    expected = ["The Company adopted a plan.", "It was approved by the board on May 1, 2020."]
    assert told == [*expected, None]
    assert [row["error"] for row in rows if row["filing_id"] == "b"] == ["empty", None]


def test_columns_that_are_not_there_are_named(file):
    with pytest.raises(SetupError, match="text=words"):
        ParquetSentences(str(file), {"text": "words"}).filings()


def test_a_chunk_counts_once_and_a_half_written_one_not_at_all(file, tiny, tmp_path):
    to = _sink(tmp_path, tiny.release)
    one = _work(file, to, tiny.release)
    chunks = [[name] for name, _ in one.sentences.filings()]
    lines = list(loop(one, chunks))
    assert sum(line["new"] for line in lines) == 12
    before = _events(to)
    assert len(before) > 3
    assert sum(line["new"] for line in list(loop(one, chunks))) == 0
    assert _events(to).equals(before)
    assert to.account()["events"] == len(before)
    assert to.begun() == []
    root = tmp_path / "out" / tiny.release.name
    name = next(iter(sorted((root / "events").iterdir()))).name
    (root / "ledger" / name).unlink()  # as if it had died between its files
    again = _sink(tmp_path, tiny.release, "two")
    assert not (root / "events" / name).exists()
    assert len(again.done()) == 11
    rest = [chunk for chunk in chunks if chunk[0] not in again.done()]
    list(loop(_work(file, again, tiny.release), rest))
    assert _events(again).equals(before)


def test_what_an_overtaken_driver_commits_late_is_not_written(file, tiny, tmp_path):
    old = _sink(tmp_path, tiny.release)
    one = _work(file, old, tiny.release)
    chunk = [name for name, _ in one.sentences.filings()][:3]
    late = Run(one)(Read(one)(chunk))
    new = _sink(tmp_path, tiny.release)
    (line,) = Commit(one)(late)["line"].to_pylist()
    assert '"new": 0' in line
    assert new.done() == set()


def test_one_driver_holds_the_folder_and_a_run_mixes_nothing(tiny, tmp_path):
    to = _sink(tmp_path, tiny.release)
    with to.hold(), pytest.raises(SetupError, match="another driver"):
        to.hold().__enter__()
    with pytest.raises(SetupError, match="begun with source"):
        to.enter({**PARTS, "source": "elsewhere"})


def test_a_store_behind_a_url_works_the_same(file, tiny, tmp_path):
    to = ParquetSink("memory://backfill-test", tiny.release.name, "one", "f")
    to.prepare()
    to.enter(PARTS)
    one = _work(file, to, tiny.release)
    chunks = [[name] for name, _ in one.sentences.filings()]
    list(loop(one, chunks[:4]))
    to.stop()
    assert list(loop(one, chunks[4:])) == []
    local = _sink(tmp_path, tiny.release)
    list(loop(_work(file, local, tiny.release), chunks[:4]))
    assert _events(to).equals(_events(local))
