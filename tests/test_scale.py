"""Plans of pools, and a cascade in pools that gives what one actor gives."""

from dataclasses import replace

import pytest

from raydistill import scale
from raydistill.corpus.parts import RunPart, service
from raydistill.corpus.stages import Commit, Read
from raydistill.errors import SetupError
from raydistill.scale import EDGES, PARTS
from tests import backfills
from tests.backfills import assert_undisturbed

TIMES = {"read": 0.02, "prefilter": 0.01, "skip": 0.25, "extract": 0.05, "commit": 0.01}


def test_a_laptop_plan_never_reserves_more_cores_than_there_are():
    for actors, threads, cores in ((1, 2, 2), (1, 4, 2), (8, 4, 6), (3, 1, 16)):
        plan = scale.laptop(actors, threads, cores)
        assert plan.pools[0].cores <= cores
        assert 0 < plan.pools[0].reserved * plan.pools[0].actors < cores
    assert scale.laptop(8, 4, 64).pools[0].actors == 8


@pytest.mark.parametrize("cores", [4, 5, 8, 32, 256, 1000])
def test_pools_leave_cores_to_reads_and_writes_and_the_slowest_gets_most(cores):
    plan = scale.cluster(TIMES, 4, cores)
    assert [pool.parts for pool in plan.pools] == [(name,) for name in PARTS]
    used = sum(pool.cores for pool in plan.pools)
    edges = sum(TIMES[name] for name in EDGES)
    assert used < cores
    if cores >= 32:
        assert cores - used >= cores * edges / sum(TIMES.values())
        assert plan.pools[1].cores > plan.pools[2].cores > plan.pools[0].cores
        alone = 1000 * cores / sum(TIMES.values())  # every core busy all the time
        assert 0.75 * alone < plan.rate <= alone


def test_a_plan_says_its_pools_and_times():
    said = str(scale.cluster(TIMES, 2, 16))
    assert "for 16 cores" in said
    assert "skip 5 x 2" in said
    assert "sentences/s" in said


def test_too_few_cores_or_missing_times_are_refused():
    with pytest.raises(SetupError, match="2 cores"):
        scale.cluster(TIMES, 2, 2)
    with pytest.raises(SetupError, match="no extract"):
        scale.cluster({**TIMES, "extract": 0.0}, 2, 8)


@pytest.mark.postgres
def test_parts_one_after_another_write_what_the_whole_cascade_writes(database, tiny):
    corpus = backfills.fill(database)
    work = backfills.work(corpus, tiny.release)
    chunks = backfills.chunks(corpus, work.sink)
    times = service(work, chunks[:2])
    assert set(times) == {*PARTS, *EDGES}
    assert min(times.values()) > 0
    read, commit = Read(work), Commit(work)
    parts = [RunPart(work, name, 1) for name in PARTS]
    for chunk in chunks:
        table = read(chunk)
        for part in parts:
            table = part(table)
        commit(table)
    assert_undisturbed(corpus, tiny.release)
    assert work.sink.begun() == []


@pytest.mark.postgres
def test_a_chunk_that_killed_a_pool_twice_is_run_whole_and_passes_the_parts_behind(database, tiny):
    corpus = backfills.fill(database)
    work = backfills.work(corpus, tiny.release)
    chunks = backfills.chunks(corpus, work.sink)[:1]
    read, commit = Read(work), Commit(work)
    front, skip, extract = (RunPart(work, name, 1) for name in PARTS)
    table = front(read(chunks[0]))
    for _ in range(2):  # two deaths in the skip pool
        work.sink.begin(chunks[0][0], "skip")
    whole = skip(table)
    assert "answer" in whole.column_names
    assert extract(whole) is whole
    commit(whole)
    commit_again = backfills.finish(work, corpus)
    assert sum(line["new"] for line in commit_again) == 40 - len(chunks[0])
    assert_undisturbed(corpus, tiny.release)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_backfill_in_pools_writes_what_one_in_one_pool_writes(database, tiny):
    import ray

    from raydistill.on_ray import cluster, flow

    corpus = backfills.fill(database)
    work = backfills.work(corpus, tiny.release)
    cluster.start(cpus=5)
    try:
        chunks = backfills.chunks(corpus, work.sink, size=1000)
        config = scale.ScaleConfig(form=scale.Form.cluster, actors=5, threads=1)
        plan = flow.planned(work, chunks, config)
        assert len(plan.pools) == 3
        nowhere = replace(config, labels={"part": "nowhere"})
        with pytest.raises(SetupError, match="no node has these labels"):
            flow.planned(work, chunks, nowhere)
        lines = list(flow.lines(flow.flow(work, chunks, plan)))
    finally:
        ray.shutdown()
    assert sum(line["new"] for line in lines) == 40
    assert_undisturbed(corpus, tiny.release)


def test_chunks_suit_the_run():
    config = scale.ScaleConfig(actors=2, threads=1)
    assert config.chunk_of(10) == 2_000
    assert config.chunk_of(480_000) == 30_000  # eight a core
    assert config.chunk_of(10**8) == 100_000
    assert replace(config, chunk=77).chunk_of(10**8) == 77
    with pytest.raises(SetupError, match="scale below 1"):
        scale.ScaleConfig(threads=0)
