"""The client against a real HTTP server that speaks the protocol, well and badly."""

import asyncio
import time
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import pytest

from raydistill.endpoint import Endpoint, EndpointLost, Pace, Reply, backoff_s, retry_after_s
from raydistill.errors import DataError, SetupError
from tests.openai_server import Says, serving

NOW = datetime(2025, 1, 1, tzinfo=timezone.utc)


def ask(url: str, **settings: Any) -> Reply:
    async def once() -> Reply:
        quick = {"first_wait_s": 0.01, "most_wait_s": 0.02, "timeout_s": 5.0} | settings
        async with Endpoint(url=url, model="teacher", **quick) as endpoint:
            return await endpoint.ask([{"role": "user", "content": "hello"}])

    return asyncio.run(once())


def test_an_answer_comes_with_its_tokens() -> None:
    with serving(lambda n, prompt: Says(prompt.upper())) as server:
        assert ask(server.url) == Reply("HELLO", 100, 10, 1)
        assert server.requests[0]["model"] == "teacher"
        assert server.requests[0]["temperature"] == 0


def test_extra_adds_to_the_request_and_null_takes_away() -> None:
    extra = {"max_tokens": None, "max_completion_tokens": 5}
    with serving(lambda n, prompt: Says("x")) as server:
        ask(server.url, extra=extra)
    assert "max_tokens" not in server.requests[0]
    assert server.requests[0]["max_completion_tokens"] == 5


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (Says(status=429), "http_429"),
        (Says(status=500, body=b"<html>oops</html>"), "http_500"),
        (Says(status=503, headers={"Retry-After": "0"}), "http_503"),
        (Says(body=b"not json"), "bad_reply"),
        (Says(body=b'{"choices": []}'), "bad_reply"),
        (Says(body=b"[" * 100_000), "bad_reply"),
        (Says(headers={"Content-Encoding": "gzip"}, body=b"garbage"), "no_connection"),
        (Says(cut=True), "no_connection"),
        (Says(hang=True), "timeout"),
        (Says("slowly", drip=True), "timeout"),
    ],
)
def test_what_may_pass_is_tried_again_and_then_lost(bad: Says, code: str) -> None:
    timeout = 0.5 if bad.hang or bad.drip else 5.0
    with serving(lambda n, prompt: bad if n == 0 else Says("fine")) as server:
        assert ask(server.url, timeout_s=timeout, tries=2).tries == 2
    with serving(lambda n, prompt: bad) as server:
        with pytest.raises(EndpointLost) as problem:
            ask(server.url, timeout_s=timeout, tries=2)
        assert problem.value.code == code
        assert len(server.requests) == 2


def test_nobody_at_the_address_is_a_lost_request() -> None:
    with serving(lambda n, prompt: Says()) as server:
        pass
    with pytest.raises(EndpointLost, match="no_connection"):
        ask(server.url, tries=2)


def test_a_request_the_server_refuses_is_not_tried_again() -> None:
    refusal = Says(status=400, body=b'{"error": {"message": "context length exceeded"}}')
    with serving(lambda n, prompt: refusal) as server:
        with pytest.raises(DataError, match="refused_400: context length"):
            ask(server.url)
        assert len(server.requests) == 1


@pytest.mark.parametrize("status", [301, 401, 403, 404])
def test_what_concerns_every_request_stops_the_run_without_the_key(status: int) -> None:
    told = Says(status=status, body=b'{"error": {"message": "bad key sk-secret-123"}}')
    with serving(lambda n, prompt: told) as server:
        with pytest.raises(SetupError, match=str(status)) as problem:
            ask(server.url, key="sk-secret-123")
        assert server.keys == ["Bearer sk-secret-123"]
    assert "sk-secret-123" not in str(problem.value)
    assert "***" in str(problem.value)


def test_the_key_is_not_in_the_repr() -> None:
    assert "sk-secret" not in repr(Endpoint(url="http://x/v1", model="m", key="sk-secret"))


def test_an_address_without_http_is_refused() -> None:
    with pytest.raises(SetupError, match="url="):
        Endpoint(url="localhost:8000", model="m")


def test_a_server_that_asks_for_an_hour_is_lost_at_once() -> None:
    busy = Says(status=429, headers={"Retry-After": "3600"})
    with serving(lambda n, prompt: busy) as server:
        with pytest.raises(EndpointLost, match="http_429"):
            ask(server.url)
        assert len(server.requests) == 1


def test_retry_after_is_read_as_seconds_and_as_a_date() -> None:
    assert retry_after_s({"retry-after": "7"}, NOW) == 7
    assert retry_after_s({"retry-after-ms": "250", "retry-after": "7"}, NOW) == 0.25
    date = format_datetime(NOW + timedelta(seconds=30), usegmt=True)
    assert retry_after_s({"retry-after": date}, NOW) == 30
    assert retry_after_s({"retry-after": "soon"}, NOW) == 0
    assert retry_after_s({"retry-after": "-5"}, NOW) == 0
    assert retry_after_s({}, NOW) == 0


def test_backoff_doubles_up_to_its_limit_within_its_jitter() -> None:
    waits = [backoff_s(n, first_s=1, most_s=20, roll=1.0) for n in range(6)]
    assert waits == [1, 2, 4, 8, 16, 20]
    assert backoff_s(3, first_s=1, most_s=20, roll=0.0) == 4
    assert backoff_s(10_000, first_s=1, most_s=20, roll=1.0) == 20


def test_a_pace_spreads_units_and_is_corrected() -> None:
    pace = Pace(60)
    assert [pace.wait_s(1, 0.0) for _ in range(3)] == [0, 1, 2]
    assert pace.wait_s(1, 100.0) == 0  # what was not used is not saved up
    tokens = Pace(600)
    assert tokens.wait_s(100, 0.0) == 0
    tokens.correct(+50)
    assert tokens.wait_s(100, 0.0) == pytest.approx(15)
    assert Pace(0).wait_s(10**9, 0.0) == 0


def test_a_wish_to_wait_holds_for_every_request_under_way() -> None:
    """After a 429 no request is sent before the time that the server named is over."""

    async def all_of_them(url: str) -> list[Reply]:
        async with Endpoint(url=url, model="m", first_wait_s=0.01, most_wait_s=0.02) as endpoint:
            message = [{"role": "user", "content": "x"}]
            first = asyncio.create_task(endpoint.ask(message))
            while endpoint._until == 0.0:
                assert not first.done()
                await asyncio.sleep(0.01)
            return await asyncio.gather(first, *(endpoint.ask(message) for _ in range(4)))

    times: list[float] = []

    def says(number: int, prompt: str) -> Says:
        times.append(time.monotonic())
        return Says(status=429, headers={"Retry-After": "0.5"}) if number == 0 else Says("ok")

    with serving(says) as server:
        replies = asyncio.run(all_of_them(server.url))
    assert [one.text for one in replies] == ["ok"] * 5
    assert min(times[1:]) - times[0] >= 0.45
