"""Three nodes on one machine: a submitted backfill outlives a node, and a stop of its job."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from raydistill import events, postgres
from raydistill.bench.nodes import Nodes, finished
from raydistill.bench.submitted import committed, until, working_dir
from raydistill.demo.world import world, write
from raydistill.pipeline import Cascade
from raydistill.source import PostgresSentences, SourceConfig

FILINGS = 60  # chunks of one or two: enough to be in the middle of
STOPPING = "SELECT bool_or(stopping IS NOT NULL) FROM raydistill.runs"
EVENTS = "SELECT sentence_id, ordinal, event_type, subject, object FROM raydistill.events"


@pytest.fixture(scope="module")
def nodes():
    """A head of one core and two workers of one core, labelled as in cluster.yaml."""
    with Nodes(2, cpus=1) as started:
        yield started


@pytest.fixture
def submitted(nodes, database, tiny, tmp_path):
    """Submits the backfill of these filings, as often as it is called."""
    write(world(seed=11, filings=FILINGS, companies=40, sentences_per_filing=60), database)
    folder = working_dir(tmp_path / "code")

    def submit(id=""):
        return nodes.submit(
            folder, "python", "jobs/backfill.py", f"root={tmp_path}",
            f"release={tiny.release.folder}", f"source.dsn='{database}'", "scale.actors=2",
            "scale.threads=1", "scale.chunk=100", "scale.labels={part: extract}", id=id,
        )  # fmt: skip

    return submit


@contextmanager
def held(database):
    """Meanwhile no chunk begins and none is forgotten, however fast they are."""
    with postgres.connect(database) as holding:
        postgres.script(holding, "LOCK TABLE raydistill.attempts IN SHARE ROW EXCLUSIVE MODE")
        yield
        holding.rollback()


def _assert_whole(database, tiny):
    assert committed(database) == FILINGS
    named = SourceConfig().sentences
    sentences = PostgresSentences(database, named.table, named.columns)
    table = Cascade(tiny.release.folder, threads=1)(
        sentences.read([name for name, _ in sentences.filings()])
    )
    rows = events.rows(table, tiny.release.task).events.to_pylist()
    names = ("sentence_id", "ordinal", "event_type", "subject", "object")
    assert set(postgres.fetch(database, EVENTS)) == {tuple(r[n] for n in names) for r in rows}


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.postgres
def test_a_stopped_job_commits_what_it_has_begun_and_goes_on(nodes, submitted, database, tiny):
    job = submitted("stopped")
    until(lambda: committed(database) >= 3, job)
    with ThreadPoolExecutor(1) as pool, held(database):
        assert not nodes.head_runs("MapWorker")  # actors keep to the nodes with the label
        stopped = pool.submit(nodes.stop, "stopped")
        until(lambda: postgres.fetch(database, STOPPING)[0][0], job)
    state = stopped.result(timeout=60)
    said, _ = job.communicate(timeout=60)
    assert "stopped; the same command goes on" in said
    assert state != "SUCCEEDED"
    assert 3 <= committed(database) < FILINGS
    finished(submitted())
    _assert_whole(database, tiny)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.postgres
def test_a_submitted_backfill_loses_nothing_when_its_node_dies(nodes, submitted, database, tiny):
    job = submitted()
    until(lambda: committed(database) >= 3, job)
    with held(database):
        nodes.kill_one_with("MapWorker")
        assert committed(database) < FILINGS
    finished(job)
    _assert_whole(database, tiny)
