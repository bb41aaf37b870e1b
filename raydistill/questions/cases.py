"""Third-party cases in the form of our tasks, read from a folder where there is one.

| file | from | task |
|---|---|---|
| tatqa_questions.jsonl | TAT-QA | query_kind, by the type of answer |
| fire_entities_relations.jsonl | FIRE | query_entities: persons, companies, locations |
| sec_ner_fin.jsonl | SEC agreements NER | query_entities |
| recognizers_currency.jsonl | Recognizers-Text | query_currency |
| duckling_money.jsonl | Duckling | query_currency |
| recognizers_dateranges_flat.jsonl | Recognizers-Text | query_dates |
| duckling_time.jsonl | Duckling | query_dates: days and longer |

Each adapter says how many of its rows it left out, and why. Their conventions are kept (an end is
the first day after a range); where they leave a choice (a month without a year may be past or
coming), the answer is the latest that has begun, as in our task.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from raydistill.answer import Answer
from raydistill.errors import AnswerError
from raydistill.fields import Value
from raydistill.task import Task
from raydistill.tasks import TASKS
from raydistill.wording.amounts import CURRENCIES, plain
from raydistill.wording.periods import shifted
from raydistill.wording.ranges import asked

Row = Mapping[str, Any]
Records = list[dict[str, Value]]


@dataclass(frozen=True, slots=True)
class Case:
    """A text, the records that belong to it, and what it must not be split from (`group`)."""

    text: str
    records: Records
    group: str
    held: bool | None = None  # whether its publisher keeps it for testing, where they say so


@dataclass(slots=True)
class Read:
    """The cases of one file in one task; rows left out by reason. Empty where `absent` says why."""

    task: Task
    source: str
    cases: list[tuple[Case, Answer]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    absent: str | None = None


class _LeftOut(Exception):
    """A row that has no answer in our task; the reason."""


def read(folder: Path) -> list[Read]:
    """The cases of every known file in `folder`."""
    return [_read(folder / name, task, adapter) for name, task, adapter in _FILES]


def _read(file: Path, name: str, adapter: "Adapter") -> Read:
    out = Read(TASKS[name], file.stem)
    if not file.is_file():
        out.absent = f"{file} is missing"
        return out
    rows = [json.loads(line) for line in file.read_text().splitlines() if line.strip()]
    for case in adapter(rows):
        if isinstance(case, str):
            out.left_out[case] += 1
            continue
        try:
            out.cases.append((case, out.task.answer(case.records, case.text)))
        except AnswerError as problem:
            out.left_out[problem.code] += 1
    return out


def _each(make: Callable[[Row], Case]) -> "Adapter":
    """The adapter that makes one case of each row."""

    def adapter(rows: Sequence[Row]) -> Iterator[Case | str]:
        for row in rows:
            try:
                yield make(row)
            except _LeftOut as reason:
                yield str(reason)

    return adapter


Adapter = Callable[[Sequence[Row]], Iterator[Case | str]]

_KINDS = {"span": "lookup", "multi-span": "list", "count": "count", "arithmetic": "calculation"}


def _kind(row: Row) -> Case:
    kind = _KINDS[row["answer_type"]]
    return Case(row["question"], [{"kind": kind}], row["table_uid"], row["split"] == "test")


_FIRE = {"Company": "company", "Person": "person", "Location": "place",
         "GeopoliticalEntity": "place"}  # fmt: skip
_NER = {"PER": "person", "ORG": "company", "LOC": "place"}


def _fire(row: Row) -> Case:
    found = sorted(
        (one for one in row["entities"] if one["type"] in _FIRE), key=lambda e: e["start"]
    )
    records: Records = [{"name": one["text"], "type": _FIRE[one["type"]]} for one in found]
    return Case(row["text"], records, row["id"], row["split"] == "test")


def _ner(row: Row) -> Case:
    records: Records = []
    words: list[str] = []
    last = "O"
    for word, tag in [*zip(row["tokens"], row["tags"], strict=True), ("", "O")]:
        if tag != last and words:
            records.append({"name": " ".join(words), "type": _NER[last[2:]]})
            words = []
        if tag[2:] in _NER:
            words.append(word)
        last = tag if tag[2:] in _NER else "O"
    return Case(row["text"], records, row["text"], row["split"] == "test")


_UNITS = {"Dollar": "USD", "Pound": "GBP", "Euro": "EUR", "Rupee": "INR", "Bitcoin": "BTC",
          "Cent": "USD", "Pence": "GBP"}  # fmt: skip
_MINOR = ("Cent", "Pence")


def _amount(value: Any, unit: str, iso: str | None) -> dict[str, Value]:
    code = iso or _UNITS.get(unit) or (unit if unit in CURRENCIES else None)
    if value is None:
        raise _LeftOut("a currency without a number")
    if code is None:
        raise _LeftOut(f"the unit {unit} names no one currency")
    number = Decimal(str(value)) / (100 if unit in _MINOR else 1)
    return {"amount": plain(number), "currency": code}


def _currency(row: Row) -> Case:
    records: Records = []
    for one in row["results"]:
        said = one["Resolution"]
        records.append(_amount(said["value"], said["unit"], said.get("isoCurrency")))
    return Case(row["input"], records, row["input"])


def _money(row: Row) -> Case:
    if row.get("op") not in ("simple", "above", "under") or row.get("unit") in (None, "Unnamed"):
        raise _LeftOut("no single amount of a currency")
    text = row["text"]
    return Case(text, [_amount(row["value"], row["unit"], None)], text)


def _ranges(rows: Sequence[Row]) -> Iterator[Case | str]:
    """Whole queries where all their results are ranges; else each phrase on its own."""
    by_query: dict[tuple[str, str | None], list[Row]] = {}
    for row in rows:
        by_query.setdefault((row["query"], row["reference_datetime"]), []).append(row)
    for (query, reference), some in by_query.items():
        if reference is None:
            yield "no day of asking"
            continue
        today = date.fromisoformat(reference[:10])
        some = sorted(some, key=lambda row: row["start_char"])
        found = [_resolved(row["values"], today) for row in some]
        if len(some) == some[0]["n_results_in_query"] and all(found):
            records = [one for one in found if one]
            yield Case(asked(query, today), records, query)
            continue
        for row, one in zip(some, found, strict=True):
            yield Case(asked(row["phrase"], today), [one], query) if one else "not resolved to days"


def _resolved(values: Sequence[Row], today: date) -> dict[str, Value] | None:
    """The latest of the values that has begun, or the first; None where none has days."""
    stated = [v for v in values if v["type"] == "daterange" and (v.get("start") or v.get("end"))]
    if not stated:
        return None
    stated.sort(key=lambda value: value.get("start") or value["end"])
    begun = [v for v in stated if (v.get("start") or v["end"]) <= today.isoformat()]
    one = (begun or stated)[-1 if begun else 0]
    return {"start": one.get("start"), "end": one.get("end")}


_GRAINS = ("day", "week", "month", "quarter", "year")


def _time(row: Row) -> Case:
    if row.get("op") not in ("datetime", "interval") or row.get("grain") not in _GRAINS:
        raise _LeftOut("a time of day, a holiday or no time")
    today = date.fromisoformat(row["reference_datetime"][:10])
    if row["op"] == "datetime":
        first = _day(row["value"])
        end = shifted(first, row["grain"], 1)
    else:
        first, end = _day(row["start"]), _day(row["end_exclusive"])
    record: dict[str, Value] = {"start": first.isoformat(), "end": end.isoformat()}
    return Case(asked(row["text"], today), [record], row["text"])


def _day(written: str) -> date:
    return datetime.fromisoformat(written).date()


_FILES: tuple[tuple[str, str, Adapter], ...] = (
    ("tatqa_questions.jsonl", "query_kind", _each(_kind)),
    ("fire_entities_relations.jsonl", "query_entities", _each(_fire)),
    ("sec_ner_fin.jsonl", "query_entities", _each(_ner)),
    ("recognizers_currency.jsonl", "query_currency", _each(_currency)),
    ("duckling_money.jsonl", "query_currency", _each(_money)),
    ("recognizers_dateranges_flat.jsonl", "query_dates", _ranges),
    ("duckling_time.jsonl", "query_dates", _each(_time)),
)
