"""The client against a real service, and against servers that are busy, broken or rude."""

import asyncio
import json
from datetime import datetime, timezone

import httpx
import pytest

from raydistill.answer import locate
from raydistill.client import AnswerBroken, AsyncClient, Client, Retries, ServiceError
from raydistill.pipeline import Cascade
from raydistill.serve import tokens
from tests.hosted import hosted

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
QUICK = Retries(tries=3, first_wait_s=0.001)


@pytest.fixture(scope="module")
def service(tiny):
    with hosted(tiny.release.folder) as url:
        yield url


@pytest.fixture(scope="module")
def texts(tiny):
    rows = tiny.dataset.table("test")
    eventful = rows.filter(rows["keep"])["text"].to_pylist()[:40]
    return [*eventful, *rows["text"].to_pylist()[:260]]


def scripted(*responses):
    """A transport that gives these responses in turn, and the requests it was sent."""
    asked = []
    left = list(responses)

    def answer(request):
        asked.append(request)
        one = left.pop(0)
        if isinstance(one, Exception):
            raise one
        return one

    return httpx.MockTransport(answer), asked


def answered(*rows):
    body = {"request_id": "r", "release": "x", "mode": "student_only", "latency_ms": 1.0}
    return httpx.Response(200, json=body | {"results": list(rows)})


def test_the_client_gives_the_answers_of_the_stages_in_process(tiny, service, texts):
    with Client(service) as client:
        made = client.extract(texts)
        assert client.healthy()
        assert client.release().name == made.release == tiny.release.name
    task = tiny.release.task
    expected = Cascade(tiny.release, threads=1).decide(texts)
    assert [one.index for one in made.results] == list(range(300))  # two requests
    assert [one.decision for one in made.results] == [one.decision for one in expected]
    for text, one, row in zip(texts, made.results, expected, strict=True):
        records = task.parse(row.answer).records if row.answer else ()
        assert one.records == records
        for record, places in zip(one.records, one.spans, strict=True):
            for name, (start, end) in places.items():
                assert text[start:end] == record[name]
    assert any(one.records for one in made.results)


def test_a_filing_comes_as_a_stream_whose_places_are_in_its_text(service, texts, tmp_path):
    file = tmp_path / "filing.htm"
    file.write_text("<html><body>" + "".join(f"<p>{one}</p>" for one in texts[:80]))
    with Client(service) as client:
        with client.filing(file) as filing:
            results = list(filing)
        with client.filing(file, only_records=True) as some:
            fewer = list(some)
    assert filing.end["sentences"] == filing.sentences == len(results)
    assert [one for one in results if one.records] == fewer
    assert fewer
    for one in fewer:
        words = filing.sentence(one)
        for record, places in zip(one.records, one.spans, strict=True):
            for name, (start, end) in places.items():
                assert words[start:end] == record[name]
                assert locate(record[name], filing.text)


def test_the_async_client_answers_the_same(service, texts):
    async def ask():
        async with AsyncClient(service) as client:
            assert await client.healthy()
            release = await client.release()
            both = await asyncio.gather(client.extract(texts[:20]), client.extract(texts[20:40]))
            async with client.filing("\n\n".join(texts[:20])) as filing:
                rows = [one async for one in filing]
            return release, [*both[0].results, *both[1].results], filing, rows

    release, results, filing, rows = asyncio.run(ask())
    with Client(service) as client:
        same = client.extract(texts[:40])
    assert [one.records for one in results] == [one.records for one in same.results]
    assert release.name == same.release
    assert len(rows) == filing.sentences


def test_a_token_goes_along_and_a_refusal_says_why(tiny, texts, tmp_path):
    secret = tokens.create(tmp_path / "tokens", "ann")
    with hosted(tiny.release.folder, tokens=str(tmp_path / "tokens")) as url:
        with Client(url, token=secret) as client:
            assert len(client.extract(texts[:2]).results) == 2
        with Client(url) as client, pytest.raises(ServiceError) as stranger:
            client.extract(texts[:2])
    assert (stranger.value.status, stranger.value.code) == (401, "no_token")
    assert stranger.value.request_id


def test_what_is_wrong_with_a_request_is_named_by_field(service):
    with Client(service) as client, pytest.raises(ServiceError) as wrong:
        client.extract(["a sentence", 3])  # pyright: ignore
    assert wrong.value.status == 422
    assert wrong.value.field == "sentences.1"


def test_busy_services_and_broken_connections_are_asked_again():
    transport, asked = scripted(
        httpx.Response(503, json={"code": "busy"}, headers={"Retry-After": "0"}),
        httpx.ReadError("gone"),
        answered(),
    )
    with Client("http://x", retries=QUICK, transport=transport) as client:
        assert client.extract([]).release == "x"
    assert len({request.content for request in asked}) == 1
    assert len(asked) == 3


@pytest.mark.parametrize("met", [httpx.Response(422), httpx.ReadTimeout("slow"),
                                 httpx.UnsupportedProtocol("no")])  # fmt: skip
def test_what_will_not_pass_is_asked_once(met):
    transport, asked = scripted(met)
    client = Client("http://x", retries=QUICK, transport=transport)
    with client, pytest.raises(ServiceError):
        client.extract(["a"])
    assert len(asked) == 1


def test_it_gives_up_after_so_many_tries():
    transport, asked = scripted(*[httpx.Response(503, json={"code": "busy"})] * 9)
    client = Client("http://x", retries=QUICK, transport=transport)
    with client, pytest.raises(ServiceError, match="503 busy"):
        client.extract(["a"])
    assert len(asked) == 3


def test_it_waits_as_long_as_it_is_asked_to_and_not_for_ever():
    def wait(seconds, attempt=0):
        met = httpx.Response(429, headers={"Retry-After": seconds})
        return Retries().wait_s(attempt, met, NOW)

    assert wait("7") == 7
    assert wait("Thu, 01 Jan 2026 00:00:09 GMT") == 9
    assert wait("3600") is None
    waits = [wait("", attempt) for attempt in range(4)]
    assert all(0.125 * 2**at <= one <= 0.25 * 2**at for at, one in enumerate(waits))
    assert wait("", 4) is None


LINES = [
    {"kind": "filing", "request_id": "r", "release": "x", "mode": "m", "filing_id": "f",
     "company": None, "cik": None, "form": None, "filed_at": None, "sentences": 2, "text": "A. B."},
    {"kind": "sentence", "index": 0, "start": 0, "end": 2, "decision": "keyword", "by": "student",
     "skip_score": None, "confidence": None, "error": None, "records": [], "spans": []},
]  # fmt: skip


@pytest.mark.parametrize("last", ["", '{"kind": "problem", "status": 503, "code": "busy"}'])
def test_a_stream_without_its_end_is_no_answer(last):
    body = "".join(json.dumps(one) + "\n" for one in LINES) + last
    transport, _ = scripted(httpx.Response(200, text=body))
    seen: list[str] = []
    client = Client("http://x", transport=transport)
    with client, client.filing("A. B.") as filing, pytest.raises(AnswerBroken):
        seen.extend(filing.sentence(one) for one in filing)
    assert seen == ["A."]
    assert filing.end is None


@pytest.mark.parametrize("body", ["", "not JSON", "[]", '{"results": 3}'])
def test_what_is_no_answer_is_an_error_and_not_an_empty_result(body):
    transport, _ = scripted(httpx.Response(200, text=body), httpx.Response(200, text=body))
    with Client("http://x", transport=transport) as client:
        with pytest.raises(ServiceError):
            client.extract(["a"])
        with pytest.raises(ServiceError), client.filing("a"):
            pass


def test_nobody_there_is_said_so():
    with Client("http://127.0.0.1:9", retries=QUICK) as client:
        assert not client.healthy()
        with pytest.raises(ServiceError, match="no_connection"):
            client.extract(["a"])
