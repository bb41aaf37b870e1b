"""The service over its ASGI interface: answers, doors and limits, without Ray."""

import asyncio
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pytest
from starlette.datastructures import Headers

from raydistill import events
from raydistill.chunk import marked
from raydistill.errors import SetupError
from raydistill.pipeline import Cascade
from raydistill.serve import settings, tokens
from raydistill.serve.front import Doors
from raydistill.serve.limits import Limits
from raydistill.serve.problems import Problem
from raydistill.serve.settings import Config
from tests.serving import served

RAW = Path(__file__).parents[2] / "shared" / "corpus" / "raw"


def ran(story):
    """Runs a coroutine function of no arguments."""
    return asyncio.run(story())


def texts_of(tiny, count):
    rows = tiny.dataset.table("test")
    return rows["text"].to_pylist()[:count]


def backfilled(tiny, texts):
    """The events that a backfill would write for these sentences."""
    ids = [str(at) for at in range(len(texts))]
    chunk = pa.table(
        {
            "filing_id": pa.array(["f"] * len(texts)),
            "id": pa.array(ids),
            "position": pa.array(range(len(texts)), pa.int32()),
            "text": pa.array(texts, pa.string()),
        }
    )
    table = Cascade(tiny.release, threads=1)(marked(chunk))
    return events.rows(table, tiny.release.task)


def as_served(tiny, results):
    """Served results as the tuples that `as_written` gives."""
    names = [field.name for field in tiny.release.task.fields]
    return [
        (
            str(one["index"]),
            at,
            tuple(record[name] for name in names),
            tuple(sorted(places.items())),
        )
        for one in results
        for at, (record, places) in enumerate(zip(one["records"], one["spans"], strict=True))
    ]


def as_written(tiny, rows):
    names = [field.name for field in tiny.release.task.fields]
    out = []
    for row in rows.events.to_pylist():
        places = {
            name: [row[f"{name}_start"], row[f"{name}_end"]]
            for name in names
            if row.get(f"{name}_start") is not None
        }
        values = tuple(row[name] for name in names)
        out.append((row["sentence_id"], row["ordinal"], values, tuple(sorted(places.items()))))
    return out


def test_sentences_get_the_events_that_backfill_writes(tiny):
    texts = texts_of(tiny, 400)
    written = as_written(tiny, backfilled(tiny, texts))
    assert len(written) > 20

    async def story():
        async with served(tiny.release.folder) as client:
            found = []
            for at in range(0, 400, 100):
                answer = await client.post("/v1/extract", json={"sentences": texts[at : at + 100]})
                assert answer.status_code == 200
                for one in answer.json()["results"]:
                    found.append(one | {"index": at + one["index"]})
            return found

    found = ran(story)
    assert as_served(tiny, found) == written
    assert {one["decision"] for one in found} >= {"keyword", "skip", "extract"}


def test_many_small_requests_at_once_get_the_same_answers_as_one_large_one(tiny):
    texts = texts_of(tiny, 120)

    async def story():
        async with served(tiny.release.folder) as client:
            whole = (await client.post("/v1/extract", json={"sentences": texts})).json()["results"]
            singles = await asyncio.gather(
                *(client.post("/v1/tasks/filing_events", json={"sentences": [t]}) for t in texts)
            )
            return whole, [one.json()["results"][0] for one in singles]

    whole, singles = ran(story)
    names = ("decision", "records", "spans", "error")
    assert [[o[n] for n in names] for o in whole] == [[o[n] for n in names] for o in singles]


@pytest.mark.shared
@pytest.mark.skipif(not RAW.is_dir(), reason="no raw filings beside the project")
def test_a_whole_filing_is_streamed_with_the_events_of_its_backfill(tiny):
    from raydistill.source import EdgarSentences

    file = sorted(RAW.glob("*8K*.htm"))[0]
    source = EdgarSentences(str(file))
    table = Cascade(tiny.release, threads=1)(source.read([file.name]))
    written = as_written(tiny, events.rows(table, tiny.release.task))

    async def story():
        async with served(tiny.release.folder) as client:
            answer = await client.post(
                "/v1/extract", content=file.read_bytes(), headers={"Content-Type": "text/html"}
            )
            assert answer.headers["content-type"] == "application/x-ndjson"
            return [json.loads(line) for line in answer.text.splitlines()]

    head, *sentences, end = ran(story)
    assert (head["kind"], end["kind"]) == ("filing", "end")
    assert end["sentences"] == len(sentences) == head["sentences"]
    assert [(id.rpartition("#")[2], *rest) for id, *rest in written] == as_served(tiny, sentences)
    for one in sentences:
        text = head["text"][one["start"] : one["end"]]
        for record, places in zip(one["records"], one["spans"], strict=True):
            for name, (start, stop) in places.items():
                assert record[name] in text[start:stop] or text[start:stop] in record[name]


def test_a_filing_as_json_may_leave_out_sentences_without_records(tiny):
    rows = tiny.dataset.table("test")
    some = rows.filter(rows["keep"])["text"].to_pylist()[:20]

    async def story():
        async with served(tiny.release.folder) as client:
            body = {"text": "\n\n".join(some), "only_records": True}
            return (await client.post("/v1/extract", json=body)).text.splitlines()

    lines = [json.loads(line) for line in ran(story)]
    middle = lines[1:-1]
    assert middle
    assert all(one["records"] for one in middle)
    assert lines[-1]["records"] == sum(len(one["records"]) for one in middle)
    assert sum(lines[-1]["decisions"].values()) == lines[-1]["sentences"] >= 20


WRONG = [
    (b"", "application/json", 400, "invalid_json", None),
    (b'{"sentences": ["a"', "application/json", 400, "invalid_json", None),
    (b'{"sentences": ["\xff"]}', "application/json", 400, "invalid_json", None),
    (b'{"sentences": ["\\ud800"]}', "application/json", 400, "invalid_json", None),
    (b"[" * 100_000, "application/json", 400, "invalid_json", None),
    (b"[]", "application/json", 422, "invalid_request", None),
    (b'{"sentences": []}', "application/json", 422, "invalid_request", "sentences"),
    (b'{"sentences": [1]}', "application/json", 422, "invalid_request", "sentences.0"),
    (b'{"sentences": "a"}', "application/json", 422, "invalid_request", "sentences"),
    (b'{"text": "a", "html": "b"}', "application/json", 422, "invalid_request", "html"),
    (b"{}", "application/json", 422, "invalid_request", "sentences"),
    (b'{"sentences": ["a"], "x": 1}', "application/json", 422, "invalid_request", "x"),
    (b'{"text": "   "}', "application/json", 400, "unreadable_filing", None),
    (b"%PDF-1.4 \0\1\2", "text/plain", 400, "unreadable_filing", None),
    (b"a=1", "application/x-www-form-urlencoded", 415, "wrong_content_type", None),
    (json.dumps({"sentences": ["a"] * 257}).encode(), "application/json", 413,
     "too_many_sentences", "sentences"),
    (b'{"text": "' + b"a" * 200_000 + b'"}', "application/json", 413, "too_large", None),
]  # fmt: skip


def test_a_wrong_body_gets_a_problem_that_names_its_field(tiny):
    async def story():
        async with served(tiny.release.folder, limits=Limits(body_bytes=150_000)) as client:
            for content, kind, status, code, field in WRONG:
                answer = await client.post(
                    "/v1/extract", content=content, headers={"Content-Type": kind}
                )
                problem = answer.json()
                assert (answer.status_code, problem["code"]) == (status, code), content[:80]
                assert answer.headers["content-type"] == "application/problem+json"
                assert problem.get("field") == field, content[:80]
                assert problem["request_id"] == answer.headers["x-request-id"]
            for path, method, status in (
                ("/nothing", "GET", 404),
                ("/v1/extract", "GET", 405),
                ("/v1/tasks/poems", "POST", 404),
            ):
                answer = await client.request(method, path)
                assert (answer.status_code, answer.json()["status"]) == (status, status)

    ran(story)


def test_gzip_is_read_and_a_bomb_stops_at_the_limit(tiny):
    limits = Limits(body_bytes=150_000)

    async def story():
        async with served(tiny.release.folder, limits=limits) as client:

            async def status(content, encoding="gzip"):
                headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
                answer = await client.post("/v1/extract", content=content, headers=headers)
                return answer.status_code

            good = gzip.compress(b'{"sentences": ["See Item 7."]}')
            assert await status(good) == 200
            assert await status(good[:12] + good[20:]) == 400
            assert await status(good[:-3]) == 400
            assert await status(gzip.compress(b"a" * 50_000_000)) == 413
            assert await status(gzip.compress(b"") * 4000) == 400
            assert await status(good, "br") == 415

    ran(story)


def test_odd_sentences_are_answered_each_with_its_own_error(tiny):
    odd = ["", "a\0b", "x" * 30_000, "The Board adopted a rights plan. \u202e\U0001f600"]

    async def story():
        async with served(tiny.release.folder) as client:
            return (await client.post("/v1/extract", json={"sentences": odd})).json()["results"]

    results = ran(story)
    assert [one["error"] for one in results[:3]] == [None, "nul_byte", "too_long"]
    assert len(results) == 4


def test_tokens_open_the_doors_and_close_them_without_a_restart(tiny, tmp_path):
    file = tmp_path / "tokens"
    user = tokens.create(file, "ann")
    admin = tokens.create(file, "root", scopes=("admin",))
    slow = tokens.create(file, "slow", rate_per_s=1, quota=3)
    assert file.stat().st_mode & 0o077 == 0
    assert user.rpartition("_")[2] not in file.read_text()
    ask = {"sentences": ["See Item 7."]}

    async def story():
        async with served(tiny.release.folder, tokens=str(file), page=False) as client:

            async def status(method, path, token=None, **rest):
                headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
                answer = await client.request(method, path, headers=headers, **rest)
                return answer.status_code, answer.json().get("code")

            assert await status("GET", "/healthz") == (200, None)
            for method, path in (
                ("POST", "/v1/extract"), ("POST", "/v1/tasks/filing_events"),
                ("GET", "/v1/release"), ("GET", "/v1/rollout"), ("PUT", "/v1/rollout"),
                ("GET", "/metrics"), ("GET", "/openapi.json"), ("GET", "/nothing"),
            ):  # fmt: skip
                assert await status(method, path) == (401, "no_token")
                for wrong in ("", "rd_ann_" + "a" * 43, user[:-1], "ann", "rd_bob_" + "a" * 43):
                    assert await status(method, path, wrong) == (401, "wrong_token")
            assert await status("POST", "/v1/extract", user, json=ask) == (200, None)
            assert await status("PUT", "/v1/rollout", user, json={}) == (403, "wrong_scope")
            assert await status("PUT", "/v1/rollout", admin, json={"mirror": 0.2}) == (200, None)
            tokens.revoke(file, "ann")
            assert await status("POST", "/v1/extract", user, json=ask) == (403, "revoked_token")
            assert await status("POST", "/v1/extract", slow, json=ask) == (200, None)
            assert await status("POST", "/v1/extract", slow, json=ask) == (429, "too_fast")
            await asyncio.sleep(1.1)
            three = {"sentences": ["a"] * 3}
            assert await status("POST", "/v1/extract", slow, json=three) == (429, "quota_spent")
            file.unlink()
            assert await status("POST", "/v1/extract", admin, json=ask) == (401, "wrong_token")

    ran(story)


def test_pages_of_other_sites_and_rebound_names_are_refused(tiny):
    ask = {"json": {"sentences": ["See Item 7."]}}

    async def story():
        async with served(tiny.release.folder) as client:
            answers = [
                await client.post("/v1/extract", headers={"Host": "evil.example"}, **ask),
                await client.post("/v1/extract", headers={"Sec-Fetch-Site": "cross-site"}, **ask),
                await client.post("/v1/extract", headers={"Sec-Fetch-Site": "same-origin"}, **ask),
            ]
            assert "access-control-allow-origin" not in answers[2].headers
            return [one.status_code for one in answers]

    assert ran(story) == [403, 403, 200]


def test_a_wide_address_without_tokens_is_refused(tiny, tmp_path):
    for host in ("0.0.0.0", "::", "192.168.1.4", "example.org"):
        with pytest.raises(SetupError, match="without tokens"):
            settings.checked(Config(release=str(tiny.release.folder), host=host))
    door = Doors()
    with pytest.raises(Problem, match="this machine alone"):
        door.enter("GET", "/v1/release", Headers({"host": "localhost"}), "192.168.1.9")
    for host in ("127.0.0.1", "::1", "localhost", "127.8.8.8"):
        settings.checked(Config(release=str(tiny.release.folder), host=host))
    tokens.create(tmp_path / "t", "ann")
    wide = Config(release=str(tiny.release.folder), host="0.0.0.0", tokens=str(tmp_path / "t"))
    assert settings.checked(wide).host == "0.0.0.0"


def test_more_requests_than_places_are_told_to_come_again(tiny):
    async def story():
        limits = Limits(waiting=4)
        async with served(tiny.release.folder, limits=limits) as client:
            ask = {"sentences": texts_of(tiny, 100)}
            answers = await asyncio.gather(
                *(client.post("/v1/extract", json=ask) for _ in range(12))
            )
            after = await client.post("/v1/extract", json=ask)
            return answers, after

    answers, after = ran(story)
    busy = [one for one in answers if one.status_code == 503]
    assert {one.status_code for one in answers} == {200, 503}
    assert all(int(one.headers["retry-after"]) >= 1 for one in busy)
    assert after.status_code == 200


def test_what_is_served_is_described_and_counted(tiny):
    async def story():
        async with served(tiny.release.folder) as client:
            sent = {"X-Request-Id": "my-id.1"}
            await client.post("/v1/extract", json={"sentences": ["See Item 7."]}, headers=sent)
            bad = await client.get("/nothing", headers={"X-Request-Id": "no\tgood id"})
            assert bad.headers["x-request-id"] != "no\tgood id"
            release = (await client.get("/v1/release")).json()
            assert release["release"] == tiny.release.name
            assert release["tasks"]["filing_events"]["task"]["name"] == "filing_events"
            described = (await client.get("/openapi.json")).json()
            body = described["paths"]["/v1/extract"]["post"]["requestBody"]
            assert body["content"]["application/json"]["examples"]["sentences"]["value"]
            text = (await client.get("/metrics")).text
            assert 'raydistill_requests_total{route="/v1/extract",status="200"} 1.0' in text
            assert 'raydistill_sentences_total{decision="keyword",task="filing_events"} 1.0' in text

    ran(story)
