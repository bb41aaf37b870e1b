"""The verbs' commands of README and docs are run as they stand, page by page, on a tiny world.

README's own commands make what the other pages begin with. To each command is added what makes it
small; names of hosts, files and releases that a reader would put in are put in.
"""

import csv
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import traceback
import urllib.parse

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from raydistill import metrics, postgres
from raydistill.__main__ import main
from raydistill.config import known_keys
from raydistill.demo.world import world, write
from tests.openai_server import Says, serving
from tests.test_docs import CHEAP, COMMANDS, ROOT, Command, _config
from tests.test_review import exported

pytestmark = [
    pytest.mark.slow,
    pytest.mark.ray,
    pytest.mark.postgres,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore"),  # of Ray, and of students that learned nothing
]
SHAPE = (
    "student.width=32 student.layers=1 student.decoder_layers=1 student.heads=2"
    " student.max_input=96 student.max_output=32 fit.steps=3 fit.batch_tokens=1000 fit.bf16=false"
    " max_dropped=1 max_cut=1 workers=0 threads=1"
)
SMALL = {
    "build": "vocabulary=900 positions=96 workers=1 head=100",
    "train": SHAPE,
    "publish": "parity=1 parity_rows=20 validation_rows=40 threads=1 licence=apache-2.0",
    "evaluate": "threads=1 draws=20",
    "backfill": "scale.actors=1 scale.chunk=2000",
    "shadow": "threads=1 rows=100 batch=50",
    "doctor": "ray=false disk_gib=0 speed_s=0.1",
    "label": "rows=6",
    "drift": "min_events=1",
    "questions": "questions=300 companies=40",
    "registry": "gates.min_agreement=0 gates.min_agreement_low=0 gates.min_event_recall=0"
    " gates.max_invented_per_1000=1000 gates.max_parity=1",
}
VERDICTS = {"drift": {0, 1, 3}, "shadow": {0, 1, 3}}  # of a student that has learned nothing
REFUSED = ("action=rollback",)  # here is one release alone; tests/test_registry.py rolls back
FILING = (
    "<TYPE>8-K\nThe Company entered into a credit agreement with First Bank.\nIt ends in 2030.\n"
)
RUN = [one for one in COMMANDS if one.verb() and not one.needs and one not in CHEAP]
PAGES = sorted({one.page for one in RUN} - {"README.md", "own-task.md"})  # test_own_task runs it


class Desk:
    """A folder to be in, a database, and a teacher that answers."""

    def __init__(self, folder, dsn, teacher):
        self.folder, self.dsn, self.teacher = folder, dsn, teacher

    def filled_in(self, line):
        """The line with this desk's own names in it."""
        address = f"'{self.dsn}'"
        line = re.sub(r"postgresql://\w+@[\w.]+/\w+", lambda _: json.dumps(address), line)
        line = line.replace("http://gpu:8000/v1", self.teacher).replace("https://...", self.teacher)
        line = line.replace("endpoint.model=...", "endpoint.model=teacher")
        line = line.replace("endpoint.key_env=MY_KEY", "endpoint.key_env=PATH")
        line = line.replace("/data/filings", str(self.folder / "filings"))
        line = line.replace("/data/releases", str(self.folder / "releases"))
        line = line.replace("/etc/raydistill/tokens", str(self.folder / "tokens"))
        line = line.replace("http://127.0.0.1:9000/v1", self.teacher)
        if (manifest := self.folder / "runs/release/release.json").is_file():
            name = json.loads(manifest.read_text())["name"]
            line = line.replace("events-95161514a1", name)
        return line

    def run(self, one, monkeypatch):
        """Runs a command in this process; gives its exit code."""
        verb, words = Command(one.page, self.filled_in(one.line), one.needs).verb()
        if verb == "serve" and not any(word.startswith("action=") for word in words):
            return self.serve(words)
        words += SMALL.get(verb, "").split()
        known = known_keys(_config(verb))
        if "source.dsn" in known and not any(w.startswith("source.dsn=") for w in words):
            words.append(f"source.dsn='{self.dsn}'")
        if "endpoint.url" in known and "endpoint.url" not in " ".join(words):
            words.append(f"endpoint.url={self.teacher}")
        monkeypatch.setattr(sys, "argv", ["raydistill", verb, *words])
        try:
            main()
        except SystemExit as ended:
            return ended.code or 0
        except Exception:  # told with the command that raised it, among all others of its page
            return traceback.format_exc(limit=-4)
        return 0

    def page(self, name, monkeypatch):
        """Runs a page's commands in their order; gives those that did not end as they should."""
        wrong = []
        for one in RUN:
            if one.page == name:
                code = self.run(one, monkeypatch)
                wished = VERDICTS.get(one.verb()[0], {0})
                if any(word in one.line for word in REFUSED):
                    wished = {2}
                if code not in wished:
                    wrong.append(f"{one.line}: {code}")
        return wrong

    def serve(self, words):
        """Starts the service in a process of its own and stops it when it answers."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        words = [*words, f"port={port}", "threads=1", "replicas=1"]
        if not any(word.startswith("runtime=") for word in words[:-3]) and len(words) > 3:
            words.append("runtime=local")  # of what Ray adds the other lines tell
        process = subprocess.Popen(
            [sys.executable, "-m", "raydistill", "serve", *words],
            env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        said = []
        try:
            for line in process.stdout:
                said.append(line)
                if "serve: ready" in line:
                    process.send_signal(signal.SIGTERM)
            code = process.wait(timeout=60)
        finally:
            process.kill()
        assert any("serve: ready" in line for line in said), "".join(said)
        return 0 if code in (0, -signal.SIGTERM, 128 + signal.SIGTERM) else code


@pytest.fixture(scope="module")
def teacher():
    with serving(lambda number, prompt: Says('{"skip": true}')) as server:
        yield server.url


@pytest.fixture(scope="module")
def databases(postgres_dsn):
    """Makes a database, empty or as a copy of another; drops them all at the end."""
    made = []

    def make(name, template="template1"):
        with postgres.connect(postgres_dsn) as connection:
            connection.autocommit = True
            # Ray's workers keep their connections a while; what is used is not copied.
            postgres.script(
                connection,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                f" WHERE datname = '{template}' AND pid <> pg_backend_pid()",
            )
            postgres.script(connection, f"CREATE DATABASE {name} TEMPLATE {template}")
        made.append(name)
        known = conninfo_to_dict(make_conninfo(postgres_dsn, dbname=name))
        user, host, port = (known[key] for key in ("user", "host", "port"))
        rest = {k: v for k, v in known.items() if k in ("passfile",)}
        query = f"?{urllib.parse.urlencode(rest)}" if rest else ""
        return f"postgresql://{user}@{host}:{port}/{name}{query}"

    yield make
    with postgres.connect(postgres_dsn) as connection:
        connection.autocommit = True
        for name in made:
            postgres.script(connection, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def _furnish(folder):
    """What the pages suppose to be there besides a database."""
    (folder / "filings").mkdir(parents=True)
    for name in ("one.txt", "two.txt"):
        (folder / "filings" / name).write_text(FILING * 10)
    (folder / "releases").mkdir()


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    """The folder of a textfile collector, for all that runs here."""
    return tmp_path_factory.mktemp("collected")


@pytest.fixture(scope="module")
def home(tmp_path_factory, databases, teacher, collected):
    """Where README's commands have been run."""
    import ray

    folder = tmp_path_factory.mktemp("home")
    _furnish(folder)
    dsn = databases("raydistill_docs_home")
    made = world(
        seed=5,
        filings=150,
        companies=40,
        sentences_per_filing=60,
        event_share=0.2,
        keyword_share=0.3,
    )
    write(made, dsn)
    desk = Desk(folder, dsn, teacher)
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        patched.setenv(metrics.ASKED, str(collected))
        assert desk.page("README.md", patched) == []
        assert desk.run(Command("", "python jobs/review.py rows=60", ""), patched) == 0
    _reviewed(folder)
    yield desk
    ray.shutdown()


@pytest.fixture
def desk(home, databases, tmp_path, monkeypatch, request, collected):
    """A copy of what README's commands have made, for one page."""
    shutil.copytree(home.folder, tmp_path, dirs_exist_ok=True)
    name = "raydistill_docs_" + re.sub(r"\W", "_", request.node.callspec.params["page"])
    dsn = databases(name, "raydistill_docs_home")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(metrics.ASKED, str(collected))
    rows = pq.read_table(tmp_path / "runs/dataset/test")
    slices = pa.array(["all"] * len(rows))
    pq.write_table(pa.table({"id": rows["id"], "slice": slices}), tmp_path / "runs/slices.parquet")
    _certificate(tmp_path)
    return Desk(tmp_path, dsn, home.teacher)


def _certificate(folder):
    """cert.pem and key.pem."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", str(folder / "key.pem"),
         "-out", str(folder / "cert.pem")],
        check=True, capture_output=True,
    )  # fmt: skip


def _reviewed(folder):
    """What people said of the sheet of `review`, as a spreadsheet and as Label Studio's export."""
    with (folder / "runs/review/sheet.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({**row, "reviewer": "ann"} for row in rows[:20])
    tasks = json.loads((folder / "runs/review/tasks.json").read_text(encoding="utf-8"))
    (folder / "export.json").write_text(json.dumps(exported(tasks[:20])), encoding="utf-8")


def test_readme_goes_the_whole_way(home):
    found = postgres.fetch(home.dsn, "SELECT count(*) FROM raydistill.ledger")
    assert found == [(2,)]  # the two files of its last command
    assert (home.folder / "runs/report/report.html").is_file()


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_runs(page, desk, monkeypatch):
    assert desk.page(page, monkeypatch) == []
