"""Whatever dies during a backfill, its events are those of an undisturbed run."""

import json
import os
import re
import signal
import threading
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc
import pytest

from raydistill import pgserver, postgres
from raydistill.corpus import account, isolate, retry, whereabouts
from raydistill.corpus.drive import Drive, signals
from raydistill.corpus.live import Live
from raydistill.corpus.stages import Read, Run, Work, loop
from raydistill.corpus.totals import Totals
from raydistill.metrics import Metrics
from raydistill.pipeline import Cascade
from tests import backfills
from tests.backfills import assert_undisturbed

pytestmark = pytest.mark.postgres


@pytest.fixture
def corpus(database):
    return backfills.fill(database)


@dataclass(frozen=True)
class Poisoned:
    """A cascade whose process is killed by one sentence and fails on another."""

    folder: Path
    kills: str
    fails: str = ""

    def __call__(self):
        loaded = []

        def run(batch):
            ids = batch["id"].to_pylist()
            if self.kills in ids:
                os.kill(os.getpid(), signal.SIGKILL)
            if self.fails in ids:
                raise ValueError("a stage's mistake")
            if not loaded:
                loaded.append(Cascade(self.folder, threads=1))
            return loaded[0](batch)

        return run


@dataclass(frozen=True)
class RunOf:
    """The step that runs a chunk, as an actor of its own would."""

    work: Work

    def __call__(self):
        return Run(self.work)


def _sentence_with_event(corpus, release):
    """A sentence that is answered, and one of the same filing beside it."""
    found = backfills.undisturbed(corpus, release).events.slice(5, 1).to_pylist()[0]
    query = "SELECT sentence_id FROM kee.sentences WHERE filing_id = %s AND position = %s"
    beside = postgres.fetch(corpus, query, [found["filing_id"], found["position"] + 1])
    return found["sentence_id"], beside[0][0], found["filing_id"]


def test_a_sentence_that_kills_is_alone_in_the_dead_letters_and_can_be_tried_again(corpus, tiny):
    release = tiny.release
    kills, fails, filing = _sentence_with_event(corpus, release)
    one = backfills.work(corpus, release, cascade=Poisoned(release.folder, kills, fails))
    (chunk,) = [c for c in backfills.chunks(corpus, one.sink, size=400) if filing in c]
    with isolate.Child(RunOf(one)) as actor:  # it dies for good, as Ray's actor would
        for _ in range(2):
            assert actor(Read(one)(chunk)) == isolate.KILLED
    (begun,) = one.sink.begun()
    assert (begun.chunk, begun.attempts) == (chunk[0], 2)
    list(loop(one, [chunk]))
    dead = dict(postgres.fetch(corpus, "SELECT sentence_id, code FROM raydistill.dead_letters"))
    assert dead[kills] == "killed_process"
    assert dead[fails] == "stage_failed"
    mended = backfills.work(corpus, release, to=one.sink)
    backfills.finish(mended, corpus)
    lost = "SELECT count(*) FROM raydistill.events WHERE sentence_id = %s"
    assert postgres.fetch(corpus, lost, [kills]) == [(0,)]
    filings = [name for name, _ in retry.dead(one.sink)]
    list(loop(mended, [filings], retry.STEPS))
    assert_undisturbed(corpus, release)


def test_a_chunk_of_nothing_but_deaths_is_no_matter_of_sentences(corpus, tiny):
    one = backfills.work(corpus, tiny.release)
    batch = Read(one)(backfills.chunks(corpus, one.sink, size=400)[0])
    with pytest.raises(isolate.TooMany, match="the release or this machine"):
        isolate.run(AlwaysFails(), batch)


@dataclass(frozen=True)
class AlwaysFails:
    def __call__(self):
        return lambda batch: 1 / 0


def test_a_connection_cut_in_the_middle_of_copy_is_done_again(corpus, tiny):
    one = backfills.work(corpus, tiny.release)
    with postgres.connect(corpus) as connection:  # the sequence survives what is rolled back
        postgres.script(
            connection,
            """CREATE SEQUENCE cuts;
            CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                IF nextval('cuts') IN (2, 5, 9) THEN
                    PERFORM pg_terminate_backend(pg_backend_pid()), pg_sleep(1);
                END IF;
                RETURN NEW;
            END $$;
            CREATE TRIGGER cut AFTER INSERT ON raydistill.events
                FOR EACH ROW EXECUTE FUNCTION cut();""",
        )
    backfills.finish(one, corpus)
    assert_undisturbed(corpus, tiny.release)
    ((cuts,),) = postgres.fetch(corpus, "SELECT last_value FROM cuts")
    ((rows,),) = postgres.fetch(corpus, "SELECT count(*) FROM raydistill.events")
    assert cuts > rows


@pytest.fixture
def server(tmp_path):
    """A folder with a server of this test's own."""
    try:
        yield tmp_path / "postgres"
    finally:
        pgserver.remove(tmp_path / "postgres")


def test_a_server_that_is_killed_and_started_again_costs_only_time(server, tiny):
    corpus = backfills.fill(pgserver.start(server))
    one = backfills.work(corpus, tiny.release)
    lines = loop(one, backfills.chunks(corpus, one.sink))
    next(lines)
    home = Path(json.loads((server / "server.json").read_text())["home"])
    os.kill(int((home / "data/postmaster.pid").read_text().split()[0]), signal.SIGKILL)
    later = threading.Timer(0.5, pgserver.start, [server])
    later.start()
    list(lines)
    later.join()
    assert_undisturbed(corpus, tiny.release)


def _drive(one, asked, said, *, hold, total=40, stall_s=300.0):
    live = Live("test", total, Metrics("test"))
    live.say = said.append
    return Drive(one.sink, hold, live, Totals(total), asked, stall_s, 30.0)


def test_sigterm_commits_what_is_begun_and_the_next_run_does_the_rest(corpus, tiny):
    one = backfills.work(corpus, tiny.release)
    said = []

    def lines():
        for count, line in enumerate(loop(one, backfills.chunks(corpus, one.sink))):
            yield line
            if count == 3:
                os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with signals() as asked, one.sink.hold() as hold:
        whole = _drive(one, asked, said, hold=hold)(lines())
    assert not whole
    assert asked.got == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before
    assert "SIGTERM: committing what is begun" in said[0]
    assert 0 < len(one.sink.done()) < 40
    assert one.sink.begin("anything", "run") == 0
    one.sink.enter(backfills.parts(corpus, tiny.release))  # as the same command does
    again = backfills.work(corpus, tiny.release, to=backfills.sink(corpus, tiny.release))
    backfills.finish(again, corpus)
    assert_undisturbed(corpus, tiny.release)


def test_a_stall_names_the_chunk_and_its_stage(corpus, tiny):
    one = backfills.work(corpus, tiny.release)
    said = []
    one.sink.begin("filing-7", "run")

    def lines():
        while not said:
            threading.Event().wait(0.05)
        yield {"filings": 40}

    with signals() as asked, one.sink.hold() as hold:
        assert _drive(one, asked, said, hold=hold, stall_s=0.1)(lines())
    assert "stalled: chunk filing-7 at run" in said[0]
    assert f"process {os.getpid()}" in said[0]


def test_a_chunk_that_takes_long_says_where_it_is(corpus, tiny):
    to = backfills.sink(corpus, tiny.release)
    to.begin("filing-7", "run")
    (begun,) = to.begun()
    with whereabouts.noted(to, "filing-7", every_s=0.05):
        while begun.place.startswith("process"):
            (begun,) = to.begun()
    assert re.fullmatch(r"\w+, process \d+ on .+", begun.place)


def test_a_full_disk_under_the_run_folder_costs_the_account_alone(tmp_path, capsys):
    folder = account.open_folder(tmp_path / "run", {"release": "one"})
    (folder / "run.json.tmp").symlink_to("/dev/full")
    account.write(folder, {"filings": 3})
    assert "No space left" in capsys.readouterr().out
    assert not (folder / "run.json").exists()


def test_values_that_postgres_refuses_are_dead_letters_and_the_chunk_goes_on(corpus, tiny):
    one = backfills.work(corpus, tiny.release)
    with postgres.connect(corpus) as connection:
        postgres.script(
            connection,
            "ALTER TABLE raydistill.events ADD CHECK (event_type <> 'director_resigned')",
        )
    list(loop(one, [[name for name, _ in backfills.sentences(corpus).filings()]]))
    expected = backfills.undisturbed(corpus, tiny.release)
    bad = expected.events.filter(pc.equal(expected.events["event_type"], "director_resigned"))
    assert len(bad) > 0
    refused = "SELECT sentence_id FROM raydistill.dead_letters WHERE code = 'value_refused'"
    found = {row[0] for row in postgres.fetch(corpus, refused)}
    assert found == set(bad["sentence_id"].to_pylist())
    total = "SELECT sum(events), sum(dead_letters) FROM raydistill.ledger"
    counts = (
        "SELECT (SELECT count(*) FROM raydistill.events), count(*) FROM raydistill.dead_letters"
    )
    assert postgres.fetch(corpus, total) == postgres.fetch(corpus, counts)
