"""What the service answers, as typed values, and how they are read from JSON."""

import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from raydistill.errors import RaydistillError

BATCH = 256  # sentences that the service takes at once
Span: TypeAlias = tuple[int, int]
Record: TypeAlias = Mapping[str, "str | int | None"]


class ServiceError(RaydistillError):
    """The service did not answer: `status` (0 without one), `code`, `detail` and `field`."""

    def __init__(
        self, status: int, code: str, detail: str, field: str | None = None, request_id: str = ""
    ) -> None:
        super().__init__(f"{status} {code}: {detail}" if status else f"{code}: {detail}")
        self.status, self.code, self.detail = status, code, detail
        self.field, self.request_id = field, request_id

    def __reduce__(self) -> tuple[object, ...]:
        values = (self.status, self.code, self.detail, self.field, self.request_id)
        return (type(self), values)


class AnswerBroken(ServiceError):
    """A filing's stream ended before its end: what came is not whole."""


@dataclass(frozen=True, slots=True)
class Result:
    """One sentence's decision: where its way ended, and the records found in it.

    `spans[i]` has characters (start, end) of the sentence for each field of `records[i]` that
    stands there. `start` and `end` are characters of a filing's text, null for single sentences.
    """

    index: int
    decision: str
    by: str
    skip_score: float | None
    confidence: float | None
    error: str | None
    records: tuple[Record, ...]
    spans: tuple[Mapping[str, Span], ...]
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The results of sentences, in their order."""

    request_id: str
    release: str
    mode: str
    latency_ms: float
    results: tuple[Result, ...]


@dataclass(frozen=True, slots=True)
class Release:
    """What answers. `raw` is all that the service says of it."""

    name: str
    label: str
    mode: str
    thresholds: Mapping[str, float]
    raw: Mapping[str, Any]


@dataclass(slots=True)
class Header:
    """What a filing's answer begins with; `end` is there once the stream is through."""

    request_id: str
    release: str
    mode: str
    filing_id: str
    company: str | None
    cik: str | None
    form: str | None
    filed_at: str | None
    sentences: int
    text: str
    end: Mapping[str, Any] | None = None

    def sentence(self, result: Result) -> str:
        """The words of a result's sentence."""
        return self.text[result.start : result.end]


@dataclass(slots=True)
class Filing(Header):
    """A filing on its way: iterate over it for its results, once."""

    lines: Iterator[str] = field(default_factory=lambda: iter(()), repr=False)

    def __iter__(self) -> Iterator[Result]:
        for line in self.lines:
            if (one := result_or_end(self, line)) is None:
                return
            yield one
        raise broken()


@dataclass(slots=True)
class AsyncFiling(Header):
    """A filing on its way: `async for` over it for its results, once."""

    lines: AsyncIterator[str] | None = field(default=None, repr=False)

    async def __aiter__(self) -> AsyncIterator[Result]:
        assert self.lines is not None
        async for line in self.lines:
            if (one := result_or_end(self, line)) is None:
                return
            yield one
        raise broken()


def joined(answers: Sequence[Answer]) -> Answer:
    """One answer of several requests; `release` is the last one's."""
    rows = [
        replace(row, index=row.index + at * BATCH) if at else row
        for at, one in enumerate(answers)
        for row in one.results
    ]
    last = answers[-1]
    spent = sum(one.latency_ms for one in answers)
    return Answer(last.request_id, last.release, last.mode, spent, tuple(rows))


def answer(value: Any) -> Answer:
    try:
        rows = tuple(_result(one) for one in value["results"])
        latency = float(value["latency_ms"])
        return Answer(value["request_id"], value["release"], value["mode"], latency, rows)
    except (KeyError, TypeError, ValueError) as problem:
        raise unknown(problem) from None


def _result(value: Mapping[str, Any]) -> Result:
    return Result(
        index=value["index"],
        decision=value["decision"],
        by=value["by"],
        skip_score=value["skip_score"],
        confidence=value["confidence"],
        error=value["error"],
        records=tuple(value["records"]),
        spans=tuple(
            {name: (int(place[0]), int(place[1])) for name, place in one.items()}
            for one in value["spans"]
        ),
        start=value.get("start"),
        end=value.get("end"),
    )


def release(value: Any) -> Release:
    try:
        thresholds = dict(value["thresholds"])
        return Release(value["release"], value["label"], value["mode"], thresholds, value)
    except (KeyError, TypeError, ValueError) as problem:
        raise unknown(problem) from None


def header(line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
        _refuse(value)
        names = ("request_id", "release", "mode", "filing_id", "company", "cik", "form", "filed_at")
        return {name: value[name] for name in (*names, "sentences", "text")}
    except (KeyError, TypeError, ValueError) as problem:
        raise unknown(problem) from None


def result_or_end(filing: Header, line: str) -> Result | None:
    """The result of a line; None for the last one, which `filing.end` then holds."""
    try:
        value = json.loads(line)
        _refuse(value)
        if value["kind"] == "end":
            filing.end = value
            return None
        return _result(value)
    except (KeyError, TypeError, ValueError) as problem:
        raise unknown(problem) from None


def _refuse(value: Mapping[str, Any]) -> None:
    """Raises what a `problem` line says."""
    if value["kind"] == "problem":
        raise AnswerBroken(
            int(value.get("status", 0)), str(value.get("code", "")), str(value.get("detail", "")),
            request_id=str(value.get("request_id", "")),
        )  # fmt: skip


def broken(why: str = "it ended early") -> AnswerBroken:
    return AnswerBroken(0, "broken", f"the filing's answer is not whole: {why}")


def unknown(problem: Exception) -> ServiceError:
    return ServiceError(0, "bad_answer", f"this is no answer of the service: {problem!r}")
