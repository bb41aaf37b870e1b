"""Filings behind an S3-compatible store are read as those in a folder."""

import pytest

from raydistill.source import EdgarSentences

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
