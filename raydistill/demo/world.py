"""A synthetic world of filings: the three tables a production teacher would have left behind.

It stands in for real filings in the demo, the tests and the benchmarks. Everything depends on the
seed and the arguments alone. Each filing is drawn from its own dice, so `chunks` streams the very
rows that `world` returns at once, in bounded memory.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from datetime import date, datetime, timedelta, timezone
from typing import Any, ParamSpec

import pyarrow as pa

from raydistill import postgres
from raydistill.demo.boilerplate import Boilerplate
from raydistill.demo.names import Company, Dice, registrants
from raydistill.demo.phrases import phrases
from raydistill.demo.rules import CHOICES, Event, Scene
from raydistill.demo.sentences import Sentence, event_sentence, near_miss
from raydistill.errors import SetupError

Arguments = ParamSpec("Arguments")

MODEL = "teacher-7b"

FILINGS = pa.schema(
    [
        ("filing_id", pa.string()),
        ("cik", pa.string()),
        ("company", pa.string()),
        ("form", pa.string()),
        ("filed_at", pa.date32()),
        ("teacher_done_at", pa.timestamp("us", tz="UTC")),
    ]
)
SENTENCES = pa.schema(
    [
        ("sentence_id", pa.string()),
        ("filing_id", pa.string()),
        ("position", pa.int32()),
        ("sentence", pa.string()),
    ]
)
EVENTS = pa.schema(
    [
        ("event_id", pa.int64()),
        ("sentence_id", pa.string()),
        ("filing_id", pa.string()),
        ("sentence", pa.string()),
        ("event_type", pa.string()),
        ("subject", pa.string()),
        ("object", pa.string()),
        ("magnitude_class", pa.string()),
        ("timing", pa.string()),
        ("sentiment", pa.string()),
        ("materiality", pa.string()),
        ("confidence", pa.int32()),
        ("date_confidence", pa.int32()),
        ("event_date", pa.string()),
        ("model", pa.string()),
        ("created_at", pa.timestamp("us", tz="UTC")),
        ("raw", pa.string()),
    ]
)
TRUTH = pa.schema(
    [
        ("sentence_id", pa.string()),
        ("phrasing_id", pa.string()),
        ("phrasing_seen", pa.bool_()),
        ("held_out", pa.bool_()),
        ("events", pa.string()),
        ("erred", pa.bool_()),
    ]
)
DDL = """
CREATE SCHEMA IF NOT EXISTS kee;
CREATE TABLE IF NOT EXISTS kee.filings (
    filing_id text PRIMARY KEY,
    cik text NOT NULL,
    company text NOT NULL,
    form text NOT NULL,
    filed_at date NOT NULL,
    teacher_done_at timestamptz
);
CREATE TABLE IF NOT EXISTS kee.sentences (
    sentence_id text PRIMARY KEY,
    filing_id text NOT NULL,
    position integer NOT NULL,
    sentence text NOT NULL
);
CREATE TABLE IF NOT EXISTS kee.events (
    event_id bigint PRIMARY KEY,
    sentence_id text NOT NULL,
    filing_id text NOT NULL,
    sentence text NOT NULL,
    event_type text,
    subject text,
    object text,
    magnitude_class text,
    timing text,
    sentiment text,
    materiality text,
    confidence integer,
    date_confidence integer,
    event_date text,
    model text NOT NULL,
    created_at timestamptz NOT NULL,
    raw jsonb NOT NULL
);
CREATE INDEX IF NOT EXISTS sentences_filing ON kee.sentences (filing_id);
CREATE INDEX IF NOT EXISTS events_filing ON kee.events (filing_id);
TRUNCATE kee.filings, kee.sentences, kee.events;
"""


@dataclass(frozen=True)
class World:
    """The teacher's tables, and `truth`: what a teacher without error would have written.

    `truth` has a row for each sentence with an event or a near-miss, also in filings the teacher
    has not read; `events` there is a JSON list of events.
    """

    filings: pa.Table
    sentences: pa.Table
    events: pa.Table
    truth: pa.Table


@dataclass(frozen=True, kw_only=True)
class _Settings:
    seed: int
    companies: tuple[Company, ...]
    mean_sentences: int
    keyword_share: float
    event_share: float
    error_rate: float
    unread: float


def _columns(schema: pa.Schema) -> dict[str, list[Any]]:
    return {name: [] for name in schema.names}


@dataclass
class _Rows:
    """The columns of the four tables, filled filing by filing."""

    filings: dict[str, list[Any]] = field(default_factory=lambda: _columns(FILINGS))
    sentences: dict[str, list[Any]] = field(default_factory=lambda: _columns(SENTENCES))
    events: dict[str, list[Any]] = field(default_factory=lambda: _columns(EVENTS))
    truth: dict[str, list[Any]] = field(default_factory=lambda: _columns(TRUTH))

    def world(self) -> World:
        return World(
            filings=pa.table(self.filings, schema=FILINGS),
            sentences=pa.table(self.sentences, schema=SENTENCES),
            events=pa.table(self.events, schema=EVENTS),
            truth=pa.table(self.truth, schema=TRUTH),
        )


def chunks(
    *,
    seed: int,
    filings: int,
    companies: int,
    sentences_per_filing: int = 200,
    error_rate: float = 0.02,
    held_out: float = 0.2,
    keyword_share: float = 0.10,
    event_share: float = 0.01,
    unread: float = 0.1,
    chunk_sentences: int = 10_000,
) -> Iterator[World]:
    """The world in pieces of whole filings, about `chunk_sentences` sentences each.

    A filing has half to one and a half times `sentences_per_filing` sentences. The shares are of
    sentences (`keyword_share` counts events and near-misses), of companies (`held_out`), of event
    sentences (`error_rate`) and of filings the teacher has not read (`unread`).
    """
    _check(filings=filings, companies=companies, sentences_per_filing=sentences_per_filing)
    shares = {"error_rate": error_rate, "held_out": held_out, "unread": unread}
    _check_shares(**shares, keyword_share=keyword_share, event_share=event_share)
    if event_share > keyword_share:
        raise SetupError(
            f"event_share {event_share} is above keyword_share {keyword_share}",
            expected="every event sentence to be one of the keyword sentences",
        )
    return _chunks(
        _Settings(
            seed=seed,
            companies=registrants(seed, companies, held_out),
            mean_sentences=sentences_per_filing,
            keyword_share=keyword_share,
            event_share=event_share,
            error_rate=error_rate,
            unread=unread,
        ),
        filings,
        chunk_sentences,
    )


def _whole(pieces: Callable[Arguments, Iterator[World]]) -> Callable[Arguments, World]:
    """A function of the same arguments that gives all pieces as one."""

    def whole(*args: Arguments.args, **named: Arguments.kwargs) -> World:
        made = list(pieces(*args, **named))
        return World(
            **{
                table.name: pa.concat_tables([getattr(piece, table.name) for piece in made])
                for table in fields(World)
            }
        )

    return whole


world = _whole(chunks)  # the whole world at once


def write(world: World, dsn: str) -> None:
    """Replaces the tables of schema `kee` by this world's; `truth` stays out, as in production."""
    with postgres.connect(dsn) as connection:
        postgres.script(connection, DDL)
        postgres.copy_in(connection, "kee.filings", world.filings)
        postgres.copy_in(connection, "kee.sentences", world.sentences)
        postgres.copy_in(connection, "kee.events", world.events)


def _check(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise SetupError(f"{name} is {count}", expected="at least 1")


def _check_shares(**shares: float) -> None:
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise SetupError(f"{name} is {share}", expected="a share from 0 to 1")


def _chunks(settings: _Settings, filings: int, chunk_sentences: int) -> Iterator[World]:
    rows, boilerplate = _Rows(), Boilerplate()
    for number in range(filings):
        _filing(settings, number, boilerplate, rows)
        if len(rows.sentences["sentence"]) >= chunk_sentences:
            yield rows.world()
            rows = _Rows()
    if rows.filings["filing_id"]:
        yield rows.world()


def _filing(settings: _Settings, number: int, boilerplate: Boilerplate, rows: _Rows) -> None:
    dice = Dice(f"{settings.seed}:filing:{number}")
    company = settings.companies[number % len(settings.companies)]
    scene = Scene(company, date(2001, 1, 1) + timedelta(days=dice.below(8_700)))
    filing_id = f"{company.cik}-{scene.filed.year % 100:02d}-{number:06d}"
    count = max(1, int(settings.mean_sentences * (0.5 + dice.roll())))
    read = dice.roll() >= settings.unread
    done = datetime(2025, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=7 * number)
    row = (filing_id, company.cik, company.name, boilerplate.form(dice), scene.filed)
    for column, item in zip(rows.filings.values(), (*row, done if read else None), strict=True):
        column.append(item)
    texts = boilerplate.filing(dice, company.name, count)
    near_end, first = settings.keyword_share, number * 100_000
    for position in range(count):
        roll = dice.roll()
        if roll >= near_end:
            continue
        sentence_id = f"{filing_id}#{position}"
        if roll >= settings.event_share:
            sentence = near_miss(dice, scene)
            answer, erred = sentence.events, False
        else:
            sentence = event_sentence(dice, scene)
            answer, erred = _answer(dice, sentence, settings.error_rate if read else 0.0)
        texts[position] = sentence.text
        _append_truth(rows.truth, sentence_id, sentence, company.held_out, erred)
        if read:
            ids = (first + 4 * position, sentence_id, filing_id)
            _append_events(rows.events, ids, sentence.text, answer, done)
    rows.sentences["sentence_id"] += [f"{filing_id}#{position}" for position in range(count)]
    rows.sentences["filing_id"] += [filing_id] * count
    rows.sentences["position"] += range(count)
    rows.sentences["sentence"] += texts


def _append_truth(
    truth: dict[str, list[Any]], id: str, sentence: Sentence, held_out: bool, erred: bool
) -> None:
    told = json.dumps(sentence.events, ensure_ascii=False) if sentence.events else "[]"
    row = (id, sentence.phrasing_id, sentence.seen, held_out, told, erred)
    for column, item in zip(truth.values(), row, strict=True):
        column.append(item)


def _append_events(
    events: dict[str, list[Any]],
    ids: tuple[int, str, str],
    text: str,
    answer: Sequence[Event],
    done: datetime,
) -> None:
    event_id, sentence_id, filing_id = ids
    raw = json.dumps({"events": answer}, ensure_ascii=False) if answer else ""
    for ordinal, event in enumerate(answer):
        row = (event_id + ordinal, sentence_id, filing_id, text, *event.values(), MODEL, done, raw)
        for column, item in zip(events.values(), row, strict=True):
            column.append(item)


def _answer(dice: Dice, sentence: Sentence, error_rate: float) -> tuple[Sequence[Event], bool]:
    """What the teacher wrote for an event sentence, and whether that is an error."""
    if dice.roll() >= error_rate:
        return sentence.events, False
    events = [dict(event) for event in sentence.events]
    which, kind = dice.below(len(events)), dice.roll()
    if kind < 0.15:
        del events[which]
    elif kind < 0.30 and len(events) < 3:
        invented = {**events[which], "event_type": "issued_press_release", "object": None}
        events.append(invented)
    else:
        _spoil(dice, events[which])
    return events, True


def _spoil(dice: Dice, event: Event) -> None:
    """Changes one field to another valid value."""
    name = dice.pick(("event_type", "subject", "object", *CHOICES, "confidence", "event_date"))
    if name == "event_type":
        others = [other for other in phrases().types if other != event[name]]
        event[name] = dice.pick(others)
    elif name in CHOICES:
        event[name] = dice.pick([other for other in CHOICES[name] if other != event[name]])
    elif name == "confidence":
        event[name] -= 1
    elif event[name] is None:  # a subject, object or date that the sentence does not have
        event[name] = "2019" if name == "event_date" else "the Company"
    else:
        event[name] = None
