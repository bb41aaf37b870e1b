"""The server of one's own: start, reuse, stop, crash, and who may reach it."""

import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from raydistill import pgserver, postgres
from raydistill.errors import SetupError

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One folder for the tests that leave a whole server behind, running or not."""
    folder = tmp_path_factory.mktemp("pgserver") / "pg"
    yield folder
    pgserver.remove(folder)


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Path]:
    """A folder where nothing is yet."""
    yield tmp_path / "pg"
    pgserver.remove(tmp_path / "pg")


def home_of(folder: Path) -> Path:
    return Path(pgserver._memory(folder)["home"])


def postmaster(folder: Path) -> int:
    return int((home_of(folder) / "data" / "postmaster.pid").read_text().split()[0])


def test_a_second_start_finds_the_first_and_a_stop_keeps_the_data(folder: Path) -> None:
    dsn = pgserver.start(folder)
    with postgres.connect(dsn) as connection:
        postgres.script(connection, "CREATE TABLE t AS SELECT 7 AS x")
    first = postmaster(folder)
    assert pgserver.start(folder) == dsn
    assert postmaster(folder) == first
    pgserver.stop(folder)
    pgserver.stop(folder)
    with pytest.raises(SetupError, match="refused"):
        postgres.connect(dsn)
    assert pgserver.start(folder) == dsn
    assert postgres.fetch(dsn, "SELECT x FROM t") == [(7,)]


def test_what_was_committed_survives_a_killed_server(folder: Path) -> None:
    dsn = pgserver.start(folder)
    with postgres.connect(dsn) as connection:
        postgres.script(connection, "CREATE TABLE n AS SELECT generate_series(1, 10000) AS x")
        connection.commit()
        postgres.script(connection, "INSERT INTO n VALUES (0)")  # not committed
        os.kill(postmaster(folder), signal.SIGKILL)
        with pytest.raises(postgres.ConnectionLost):
            postgres.fetch(connection, "SELECT pg_sleep(60)")
    dsn = pgserver.start(folder)
    assert postgres.fetch(dsn, "SELECT min(x), count(*) FROM n") == [(1, 10000)]


def test_the_password_is_only_in_a_file_of_mode_0600(folder: Path) -> None:
    dsn = pgserver.start(folder)
    file = folder / "pgpass"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    password = file.read_text().strip().rpartition(":")[2]
    assert len(password) > 20
    assert password not in dsn
    assert not [p for p in home_of(folder).glob("*") if p.is_file() and password in p.read_text()]
    with pytest.raises(SetupError, match="password authentication failed"):
        postgres.connect(dsn.replace("@", ":wrong-password@"))
    with pytest.raises(SetupError, match="no password supplied"):
        postgres.connect(dsn.replace("pgpass", "nothing"))
    listens = postgres.fetch(dsn, "SHOW listen_addresses")
    assert listens == [("127.0.0.1",)]


def test_starts_at_the_same_time_give_one_server(fresh: Path) -> None:
    code = "import sys, pathlib; from raydistill import pgserver; "
    code += "print(pgserver.start(pathlib.Path(sys.argv[1])))"
    command = [sys.executable, "-c", code, str(fresh)]
    starts = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    answers = {start.communicate(timeout=120)[0] for start in starts}
    assert [start.returncode for start in starts] == [0, 0, 0]
    (dsn,) = answers
    assert postgres.fetch(dsn.strip(), "SELECT 1") == [(1,)]


def test_a_port_taken_meanwhile_is_changed_for_another(folder: Path) -> None:
    dsn = pgserver.start(folder)
    pgserver.stop(folder)
    port = int(re.findall(r":(\d+)/", dsn)[0])
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        taken.listen()
        other = pgserver.start(folder)
    assert other != dsn
    assert postgres.fetch(other, "SELECT 1") == [(1,)]


def test_a_server_that_does_not_start_says_what_its_log_says(fresh: Path) -> None:
    pgserver.start(fresh)
    pgserver.stop(fresh)
    with (home_of(fresh) / "data" / "postgresql.conf").open("a") as conf:
        conf.write("shared_bufers = 1\n")
    with pytest.raises(SetupError, match=r'did not start(.|\n)*"shared_bufers"(.|\n)*source\.dsn='):
        pgserver.start(fresh)


def test_a_lost_password_or_lost_data_is_not_papered_over(folder: Path) -> None:
    pgserver.start(folder)
    text = (folder / "pgpass").read_text()
    (folder / "pgpass").unlink()
    with pytest.raises(SetupError, match="pgpass is gone"):
        pgserver.start(folder)
    (folder / "pgpass").write_text(text)
    pgserver.stop(folder)
    home = home_of(folder)
    home.rename(home.with_suffix(".away"))
    with pytest.raises(SetupError, match="which is gone"):
        pgserver.start(folder)
    home.with_suffix(".away").rename(home)


def test_a_set_up_that_was_cut_short_begins_again(fresh: Path) -> None:
    pgserver.start(fresh)
    pgserver.stop(fresh)
    home = home_of(fresh)
    (home / "data").rename(home / "data.new")  # as if killed before initdb was done
    (home / "data.new" / "PG_VERSION").unlink()
    assert postgres.fetch(pgserver.start(fresh), "SELECT 1") == [(1,)]


def test_remove_leaves_nothing(fresh: Path) -> None:
    dsn = pgserver.start(fresh)
    home = home_of(fresh)
    pgserver.remove(fresh)
    assert not home.exists()
    assert list(fresh.iterdir()) == []
    with pytest.raises(SetupError, match="refused"):
        postgres.connect(dsn)


def test_binaries_of_a_version_nobody_has_are_a_setup_error() -> None:
    assert (pgserver.binaries() / "pg_ctl").exists()
    with pytest.raises(SetupError, match="no PostgreSQL 99"):
        pgserver.binaries(99)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root must give the server to another user")
def test_as_root_the_server_is_another_user_and_reaches_its_data(tmp_path: Path) -> None:
    open_folder = Path(tempfile.mkdtemp(prefix="raydistill-test-"))
    open_folder.chmod(0o755)
    tmp_path.chmod(0o700)
    try:
        for folder in (open_folder, tmp_path):
            pgserver.start(folder)
            home = home_of(folder)
            assert home.stat().st_uid != 0
            assert stat.S_IMODE((home / "data").stat().st_mode) == 0o700
            if Path("/proc/self").exists():
                assert Path(f"/proc/{postmaster(folder)}").stat().st_uid == home.stat().st_uid
            assert stat.S_IMODE(folder.stat().st_mode) == (
                0o755 if folder is open_folder else 0o700
            )
        assert home_of(open_folder).parent == open_folder
        assert home_of(tmp_path).parent == Path(tempfile.gettempdir())
    finally:
        pgserver.remove(open_folder)
        pgserver.remove(tmp_path)
        shutil.rmtree(open_folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_a_setup_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(SetupError, match="choose another folder"):
        pgserver.start(tmp_path / "pg")
