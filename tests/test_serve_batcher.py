"""Batches: what waits together goes together, and nobody pays for another's sentence."""

import asyncio
import time

import pytest

from raydistill.serve.batcher import Batcher, Decided, tokens
from raydistill.serve.problems import Problem, busy


def run(story, **options):
    """Runs a story with a batcher that gives texts in capitals; gives what was called, too."""
    calls = []
    gate = asyncio.Event()

    async def call(texts):
        calls.append(list(texts))
        await gate.wait()
        if "poison" in texts:
            raise busy("it died", code="student_unavailable")
        return Decided("r", [text.upper() for text in texts])

    async def whole():
        return await story(Batcher(call, **options), gate)

    return asyncio.run(whole()), calls


async def begun(batcher, *requests, background=()):
    tasks = [asyncio.create_task(batcher(texts)) for texts in requests]
    tasks += [asyncio.create_task(batcher(texts, background=True)) for texts in background]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


def test_what_waits_while_a_batch_runs_is_the_next_one():
    async def story(batcher, gate):
        tasks = await begun(batcher, ["a"], ["b"], ["c", "d"])
        gate.set()
        return [one.rows for one in await asyncio.gather(*tasks)]

    rows, calls = run(story)
    assert rows == [["A"], ["B"], ["C", "D"]]
    assert calls == [["a"], ["b", "c", "d"]]


def test_batches_are_cut_by_tokens_and_background_goes_last():
    async def story(batcher, gate):
        tasks = await begun(batcher, ["a"], ["x" * 40], ["y" * 40], background=[["z"]])
        tasks += await begun(batcher, ["b"])
        gate.set()
        await asyncio.gather(*tasks)

    _, calls = run(story, most=20)
    assert calls == [["a"], ["x" * 40], ["y" * 40, "b"], ["z"]]


def test_background_waits_for_its_kind_but_not_for_ever():
    async def story(batcher, gate):
        gate.set()
        tasks = await begun(batcher, background=[["y"]])
        tasks += await begun(batcher, ["a"], background=[["z"]])
        await asyncio.gather(*tasks)

    _, calls = run(story, linger_s=0.2)
    assert calls == [["a"], ["y", "z"]]
    began = time.monotonic()
    _, calls = run(story, linger_s=60, most=2 * tokens(["y"]))  # a full batch does not wait
    assert calls == [["a"], ["y", "z"]]
    assert time.monotonic() - began < 30


def test_a_request_that_kills_is_alone_with_its_problem():
    async def story(batcher, gate):
        tasks = await begun(batcher, ["a"], ["b"], ["poison"], ["c"])
        gate.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    found, _ = run(story)
    assert [getattr(one, "rows", None) for one in found] == [["A"], ["B"], None, ["C"]]
    assert isinstance(found[2], Problem)
    assert found[2].status == 503


def test_too_much_waiting_is_refused_and_a_client_that_went_costs_nothing():
    async def story(batcher, gate):
        tasks = await begun(batcher, ["a"], ["b" * 300], ["c"])
        with pytest.raises(Problem, match="wait already"):
            await batcher(["d" * 300])
        tasks[1].cancel()
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(*tasks, return_exceptions=True)

    _, calls = run(story, waiting=100)
    assert calls == [["a"], ["c"]]
