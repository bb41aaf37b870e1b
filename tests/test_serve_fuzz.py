"""Whatever is sent, the service answers it or says what is wrong: never a 500."""

import asyncio
import gzip
import json
import os
import random
import zlib

import pytest

from raydistill.serve.limits import Limits
from tests.serving import served

FUZZED = int(os.environ.get("RAYDISTILL_FUZZ", "400"))
KINDS = (
    "application/json", "text/plain", "text/html", "application/octet-stream", "text/csv", "",
    "application/json; charset=utf-16", "multipart/form-data; boundary=x",
)  # fmt: skip
PATHS = ("/v1/extract", "/v1/tasks/filing_events", "/v1/tasks/%00", "/v1/rollout")
LIMITS = Limits(body_bytes=12_000_000, filing_sentences=5_000)


def deep(dice, size):
    opening, closing = dice.choice([("[", "]"), ('{"a":', "}"), ('{"sentences":[', "]}")])
    return (opening * size + "1" + closing * dice.choice([0, size])).encode()


def value(dice, depth=0):
    """Some JSON value, mostly of the wrong type."""
    kind = dice.randrange(10 if depth < 3 else 7)
    if kind < 3:
        return "".join(chr(dice.choice([0, 9, 65, 233, 0x202E, 0x1F600])) for _ in range(kind * 20))
    if kind < 7:
        return (None, True, dice.randrange(10**30), dice.random() * 1e308)[kind - 3]
    if kind < 9:
        return [value(dice, depth + 1) for _ in range(dice.randrange(5))]
    names = ("sentences", "text", "html", "key", "only_records", "mode", "share", "x", "\0")
    return {dice.choice(names): value(dice, depth + 1) for _ in range(dice.randrange(5))}


def body(dice):
    """A body that is wrong in one of many ways, or right."""
    kind = dice.randrange(12)
    if kind == 0:
        return dice.randbytes(dice.randrange(3000))
    if kind == 1:
        return deep(dice, dice.choice([10, 500, 100_000]))
    if kind == 2:
        return b'{"sentences": ["' + dice.randbytes(dice.randrange(50)) + b'"]}'
    if kind == 3:
        return b'{"sentences": ["\\ud8' + dice.choice([b"00", b"0", b"ff\\udc00"]) + b'"]}'
    if kind == 4:
        return b'{"sentences": [' + b"9" * dice.choice([3, 5000, 100_000]) + b"]}"
    if kind == 5:
        return json.dumps({"sentences": ["word " * dice.choice([1, 10, 5_000])]}).encode()
    if kind == 6:
        return b"<html>" + b"<div>" * dice.choice([1, 3_000]) + b"The Board met. \0" * 9
    if kind == 7 and dice.random() < 0.05:
        return b"The Company filed its report on Form 10-K. " * 240_000  # 10 MB
    return json.dumps(dice.choice([value(dice), {"sentences": value(dice)}])).encode()


def packed(dice, content):
    """The body under some Content-Encoding, true or not."""
    kind = dice.randrange(8)
    if kind == 0:
        return gzip.compress(content, 1), "gzip"
    if kind == 1:
        return gzip.compress(content, 1)[: dice.randrange(1, 30)], "gzip"
    if kind == 2 and dice.random() < 0.2:
        bomb = zlib.compressobj(9, wbits=31)
        return b"".join(bomb.compress(bytes(1 << 20)) for _ in range(40)) + bomb.flush(), "gzip"
    if kind == 3:
        return content, dice.choice(["gzip", "br", "deflate", "gzip, gzip", "\x7f"])
    return content, None


def test_fuzzed_bodies_are_answered_or_refused(tiny):
    dice = random.Random(7)

    async def story():
        async with served(tiny.release.folder, limits=LIMITS) as client:
            seen = {}
            for number in range(FUZZED):
                content, encoding = packed(dice, body(dice))
                headers = {"Content-Type": dice.choice(KINDS)}
                if encoding is not None:
                    headers["Content-Encoding"] = encoding
                path = dice.choice(PATHS)
                method = "PUT" if path == "/v1/rollout" else "POST"
                answer = await client.request(method, path, content=content, headers=headers)
                status = answer.status_code
                seen[status] = seen.get(status, 0) + 1
                assert status < 500 or status == 503, (number, path, headers, content[:200])
                if status >= 400:
                    assert answer.json()["status"] == status
            return seen

    seen = asyncio.run(story())
    print(seen)
    assert {200, 400, 413, 415, 422} <= set(seen)


@pytest.mark.filterwarnings("ignore")
def test_schemathesis_finds_no_server_error(tiny):
    """Cases that a generator makes of the interface's own description."""
    schemathesis = pytest.importorskip("schemathesis", reason="the extra dev is not installed")
    from hypothesis import HealthCheck, Phase, given, settings

    from raydistill.serve import settings as serving
    from raydistill.serve.answerers import Answerers
    from raydistill.serve.student import LocalStudent

    count = int(os.environ.get("RAYDISTILL_CASES", "6"))
    config = serving.checked(
        serving.Config(release=str(tiny.release.folder), page=False, hosts=["testserver"])
    )
    student = LocalStudent(Answerers(serving.paths(config), threads=1))
    app = serving.application(config, serving.service(config, student, {}))

    async def here(scope, receive, send):  # what is made in this process has no address
        await app({**scope, "client": ("127.0.0.1", 1)}, receive, send)

    schema = schemathesis.openapi.from_asgi("/openapi.json", here)
    seen = {}
    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(
            max_examples=count,
            deadline=None,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def check(case):
            answer = case.call()
            seen[answer.status_code] = seen.get(answer.status_code, 0) + 1
            assert answer.status_code < 500

        check()
    print(seen)
    assert 200 in seen
