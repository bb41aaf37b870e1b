"""An S3-compatible store is read and written as a folder is."""

import pyarrow.parquet as pq
import pytest

from raydistill.corpus.parquet_sink import ParquetSink
from raydistill.corpus.stages import Work, loop
from raydistill.demo.world import world
from raydistill.parquet import ParquetSentences
from raydistill.source import EdgarSentences
from tests.backfills import Loaded

pytest.importorskip("s3fs", reason="the package s3fs is not installed")
server = pytest.importorskip("moto.server", reason="the package moto[server] is not installed")

TEXT = b"The Company entered into a credit agreement. It expires in 2030.\n" * 20


@pytest.fixture
def store(monkeypatch):
    """The address of an empty S3 on this machine."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()  # one of another test knows the address of its server
    yield
    running.stop()


@pytest.mark.filterwarnings("ignore")  # of libraries below s3fs
def test_filings_in_a_bucket_are_those_of_a_folder(store, tmp_path):
    import s3fs

    bucket = s3fs.S3FileSystem()
    bucket.mkdir("filings")
    for name in ("one.txt", "two.txt"):
        (tmp_path / name).write_bytes(TEXT)
        bucket.pipe(f"filings/2024/{name}", TEXT)
    there, here = EdgarSentences("s3://filings/2024"), EdgarSentences(str(tmp_path))
    assert there.filings() == here.filings()
    names = [name for name, _ in here.filings()]
    assert there.read(names).equals(here.read(names))
    assert len(there.read(names)) > 40


def _begun(path, release):
    """A sink of the run there, as each start of the driver makes one."""
    made = ParquetSink(path, release.name, "one", "f")
    made.prepare()
    made.enter({"release": release.name})
    return made


@pytest.mark.filterwarnings("ignore")  # of libraries below s3fs
def test_a_backfill_from_and_to_a_bucket_goes_on_and_is_that_of_a_folder(store, tiny, tmp_path):
    import s3fs

    made = world(seed=11, filings=12, companies=20, sentences_per_filing=150, event_share=0.1)
    pq.write_table(made.sentences, tmp_path / "in.parquet", row_group_size=200)
    bucket = s3fs.S3FileSystem()
    bucket.mkdir("corpus")
    bucket.put(str(tmp_path / "in.parquet"), "corpus/in.parquet")

    def rows(source, path, stops):
        for stop in stops:
            to = _begun(path, tiny.release)
            work = Work(
                str(tiny.release.folder), ParquetSentences(source, {}), to,
                Loaded(tiny.release.folder), patience_s=1.0,
            )  # fmt: skip
            left = [[name] for name, _ in work.sentences.filings() if name not in to.done()]
            list(loop(work, left[:stop]))
        assert len(to.done()) == 12
        table = to._table("events", None)
        return table.sort_by([("sentence_id", "ascending"), ("ordinal", "ascending")])

    there = rows("s3://corpus/in.parquet", "s3://corpus/out", [5, 12])
    here = rows(str(tmp_path / "in.parquet"), str(tmp_path / "out"), [12])
    assert there.equals(here)
    assert len(there)  # the comparison was not of nothing
