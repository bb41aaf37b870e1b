"""The compact target language: an answer as the shortest token sequence a student can learn.

JSON costs ~110 output tokens an event and every one is a decoder step. Here the values stand alone,
in schema order:

    sentence:  The Company dismissed KPMG LLP on March 5, 2024.
    answer:    <event_type=dismissed_auditor> <p0><p1> <p3><p4> <magnitude_class=major> ...
               <y2024><m03><d05>

- a choice, a small integer, a frequent event type, a year, month or day is one added token;
- a span that stands in the sentence is two position tokens (its first and last input token), so it
  is copied, not spelled, and comes with character offsets;
- a date or number that the sentence states in any form is pointed at in the same way, and read;
- any other text is spelled between `<text>` and `</text>`; null is `<null>`;
- records are separated by `<next>`; an answer without records is `<none>`.

Every sequence decodes to an answer or to an AnswerError with a code; every answer in standard form
survives encode and decode.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from raydistill.answer import Answer, Offsets, Record, is_word, locate, occurrences
from raydistill.errors import AnswerError
from raydistill.fields import Choice, Date, Field, Integer, Number, Span, Text, Value

NONE, NEXT, NULL, OPEN, CLOSE = "<none>", "<next>", "<null>", "<text>", "</text>"
YEARS = range(1950, 2050)
MAX_RECORDS = 16
MAX_INTEGERS = 256  # an integer field with a wider range is spelled

Spell = Callable[[str], list[str]]
Unspell = Callable[[Sequence[str]], str]


@dataclass(frozen=True, slots=True)
class Source:
    """A sentence as the student reads it: its text, and characters (start, end) of each token."""

    text: str
    offsets: Sequence[tuple[int, int]]


class Target(Protocol):
    """How an answer is written for a student, and read back from what it writes."""

    def tokens(self) -> list[str]:
        """The tokens this target adds to a tokenizer."""
        ...

    def encode(self, answer: Answer, source: Source) -> list[str]:
        """The tokens that a student is taught for this answer."""
        ...

    def decode(self, tokens: Sequence[str], source: Source) -> Answer:
        """The answer of these tokens, or AnswerError."""
        ...


def decoded(target: Target, tokens: Sequence[str], source: Source) -> Answer | AnswerError:
    """The answer of output tokens, or the AnswerError they decode to, as a value."""
    try:
        return target.decode(tokens, source)
    except AnswerError as problem:
        return problem


@dataclass(frozen=True, slots=True)
class Single:
    """The target of a task with exactly one record; other numbers of them decode to an error."""

    inner: Target

    def tokens(self) -> list[str]:
        return self.inner.tokens()

    def encode(self, answer: Answer, source: Source) -> list[str]:
        return self.inner.encode(answer, source)

    def decode(self, tokens: Sequence[str], source: Source) -> Answer:
        answer = self.inner.decode(tokens, source)
        if len(answer.records) != 1:
            raise AnswerError("wrong_count", f"{len(answer.records)} records instead of one")
        return answer


def _date_tokens() -> list[str]:
    years = [f"<y{year}>" for year in YEARS]
    return years + [f"<m{m:02}>" for m in range(1, 13)] + [f"<d{d:02}>" for d in range(1, 32)]


class Compact:
    """The compact target of one task's fields.

    `positions` is how many input tokens can be pointed at; `spell` and `unspell` are the
    tokenizer's text -> tokens and back.
    """

    def __init__(
        self, fields: tuple[Field, ...], *, positions: int, spell: Spell, unspell: Unspell
    ) -> None:
        self.fields, self.positions = fields, positions
        self.spell, self.unspell = spell, unspell
        self._values = {field.name: _value_tokens(field) for field in fields}
        self._known = [(field, self._known_of(field)) for field in fields]

    def _known_of(self, field: Field) -> dict[str, Value]:
        """What each token says that is a whole value of the field."""
        known = {token: value for value, token in self._values[field.name].items()}
        return known | ({NULL: None} if field.nullable else {})

    def tokens(self) -> list[str]:
        added = [NONE, NEXT, NULL, OPEN, CLOSE]
        added += [f"<p{place}>" for place in range(self.positions)]
        if any(isinstance(field, Date) for field in self.fields):
            added += _date_tokens()
        for values in self._values.values():
            added += values.values()
        return list(dict.fromkeys(added))

    def singles(self, field: Field) -> list[str]:
        """The tokens that are a whole value of a field."""
        return list(self._values[field.name].values())

    def encode(self, answer: Answer, source: Source) -> list[str]:
        if not answer.records:
            return [NONE]
        out: list[str] = []
        for record in answer.records:
            out += [NEXT] if out else []
            for field in self.fields:
                out += self._encoded(field, record[field.name], source)
        return out

    def _encoded(self, field: Field, value: Value, source: Source) -> list[str]:
        if value is None:
            return [NULL]
        token = self._values[field.name].get(value)
        if token is not None:
            return [token]
        place = place_of(field, str(value), source, self.positions)
        if place:
            return [f"<p{place[0]}>", f"<p{place[1]}>"]
        if isinstance(field, Date):
            parts = str(value).split("-")
            if int(parts[0]) in YEARS:
                return [f"<{letter}{part}>" for letter, part in zip("ymd", parts, strict=False)]
        return [OPEN, *self.spell(str(value)), CLOSE]

    def decode(self, tokens: Sequence[str], source: Source) -> Answer:
        reader = _Reader(tokens)
        if not tokens:
            raise AnswerError("empty")
        if tokens[0] == NONE:
            reader.take()
            reader.end()
            return Answer()
        records: list[Record] = []
        offsets: list[Offsets] = []
        count = 0
        while True:
            record: Record = {}
            places: Offsets = {}
            for field, known in self._known:
                token = reader.take()
                if token in known:
                    record[field.name] = known[token]
                    continue
                record[field.name], place = self._decoded(field, token, reader, source)
                if place:
                    places[field.name] = place
            if record not in records:  # as everywhere, two equal records are one
                records.append(record)
                offsets.append(places)
            count += 1
            if not reader.more():
                return Answer(tuple(records), tuple(offsets))
            if count == MAX_RECORDS:
                raise AnswerError("too_many_records", f"more than {MAX_RECORDS}")
            reader.expect(NEXT)

    def _decoded(
        self, field: Field, token: str, reader: "_Reader", source: Source
    ) -> tuple[Value, tuple[int, int] | None]:
        """The value that begins with a token which is none by itself, and its place."""
        if token == NULL:
            return field.normalise(None), None
        if token == OPEN and not isinstance(field, Choice):
            value = field.normalise(self.unspell(reader.until(CLOSE)))
            if field.kind == "span" and isinstance(value, str):
                return value, locate(value, source.text)
            return value, None
        if isinstance(field, Date) and _DATE["y"].fullmatch(token):
            return field.normalise(reader.date(token)), None
        if isinstance(field, Span | Date | Number) and _POSITION.fullmatch(token):
            start, end = self._pointed(token, reader.take(), source)
            if field.snaps:
                return snapped(field, start, end, source.text)
            value = field.read(source.text[start:end], source.text)
            verbatim = value == source.text[start:end] or not isinstance(field, Span)
            return value, ((start, end) if verbatim else None)
        raise AnswerError("unexpected_token", f"{token[:40]!r} for {field.name}")

    def _pointed(self, first: str, last: str, source: Source) -> tuple[int, int]:
        """Characters (start, end) of two position tokens."""
        if not _POSITION.fullmatch(last):
            raise AnswerError("unexpected_token", f"{last[:40]!r} after {first}")
        low, high = int(first[2:-1]), int(last[2:-1])
        if not low <= high < len(source.offsets):
            raise AnswerError("bad_span", f"{first}{last} of {len(source.offsets)} tokens")
        return whole(source.text, source.offsets[low][0], source.offsets[high][1])


_POSITION = re.compile(r"<p\d{1,6}>")
_DATE = {"y": re.compile(r"<y\d{4}>"), "m": re.compile(r"<m\d\d>"), "d": re.compile(r"<d\d\d>")}


def _value_tokens(field: Field) -> dict[Value, str]:
    """The field's values that are one token each."""
    values: Sequence[Value] = ()
    if isinstance(field, Choice):
        values = field.choices
    elif isinstance(field, Text):
        values = field.vocabulary
    elif isinstance(field, Integer) and field.high - field.low < MAX_INTEGERS:
        values = range(field.low, field.high + 1)
    return {value: f"<{field.name}={value}>" for value in values}


def place_of(field: Field, value: str, source: Source, positions: int) -> tuple[int, int] | None:
    """First and last token of the first phrase in the sentence that reads as `value`, or None.

    A span is the phrase itself; a date or a number is any phrase whose standard form it is.
    """
    if isinstance(field, Span):
        starts = occurrences(value, source.text)
        return _first_pointed(((at, at + len(value)) for at in starts), source, positions)
    stating = (
        (start, end)
        for start, end in field.mentions(source.text)
        if _reads_as(field, source.text[start:end], value, source.text)
    )
    return _first_pointed(stating, source, positions)


def _reads_as(field: Field, phrase: str, value: str, text: str) -> bool:
    try:
        return field.read(phrase, text) == value
    except AnswerError:
        return False


def _first_pointed(
    spans: Iterable[tuple[int, int]], source: Source, positions: int
) -> tuple[int, int] | None:
    """First and last token of the first of `spans` that is whole words, token to token."""
    offsets = source.offsets[:positions]
    for start, end in spans:
        if whole(source.text, start, end) != (start, end):
            continue
        first = bisect_left(offsets, start, key=lambda pair: pair[0])
        if first < len(offsets) and offsets[first][0] == start:
            last = bisect_left(offsets, end, lo=first, key=lambda pair: pair[1])
            if last < len(offsets) and offsets[last][1] == end:
                return first, last
    return None


def snapped(field: Field, start: int, end: int, text: str) -> tuple[Value, tuple[int, int]]:
    """What the characters state, or else the phrase that shares most with them; and where it is.

    A student that points at a part of "from May to October 2020" means all of it.
    """
    try:
        return field.read(text[start:end], text), (start, end)
    except AnswerError:
        places = [one for one in field.mentions(text) if one[0] < end and start < one[1]]
        longest = [
            (low, high)
            for low, high in places
            if not any(a <= low and high <= b and (a, b) != (low, high) for a, b in places)
        ]
        if not longest:
            raise
        low, high = max(longest, key=lambda one: min(end, one[1]) - max(start, one[0]))
        return field.read(text[low:high], text), (low, high)


def whole(text: str, start: int, end: int) -> tuple[int, int]:
    """Characters (start, end) widened to whole words and numbers ("3.75", "15,400,000").

    A student that points at any piece of a word means the word: pieces are the tokenizer's affair.
    """
    while start > 0 and _inside(text, start):
        start -= 1
    while end < len(text) and _inside(text, end):
        end += 1
    return start, end


def _inside(text: str, at: int) -> bool:
    """Whether a word or number goes on between the characters `at - 1` and `at`."""
    before, after = text[at - 1], text[at]
    if before == " " or after == " ":  # nearly always
        return False
    if is_word(before) and is_word(after):
        return True
    if before in ".,":
        return after.isdigit() and at > 1 and text[at - 2].isdigit()
    return after in ".," and before.isdigit() and text[at + 1 : at + 2].isdigit()


class _Reader:
    """A cursor over output tokens that ends in an AnswerError instead of an IndexError."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self.tokens, self.at = tokens, 0

    def more(self) -> bool:
        return self.at < len(self.tokens)

    def take(self) -> str:
        at = self.at
        if at >= len(self.tokens):
            raise AnswerError("cut_short", f"after {len(self.tokens)} tokens")
        self.at = at + 1
        return self.tokens[at]

    def expect(self, token: str) -> None:
        found = self.take()
        if found != token:
            raise AnswerError("unexpected_token", f"{found[:40]!r} instead of {token}")

    def end(self) -> None:
        if self.more():
            raise AnswerError("unexpected_token", f"{self.tokens[self.at][:40]!r} after the end")

    def until(self, mark: str) -> Sequence[str]:
        start = self.at
        while self.take() != mark:
            pass
        return self.tokens[start : self.at - 1]

    def date(self, year: str) -> str:
        """`year` and the month and day tokens that follow it, as ISO."""
        parts = [year[2:-1]]
        for letter in "md":
            if not (self.more() and _DATE[letter].fullmatch(self.tokens[self.at])):
                break
            parts.append(self.take()[2:-1])
        return "-".join(parts)
