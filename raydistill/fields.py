"""Fields: what one value of an answer may be, its one standard form, and how two values compare.

A field normalises whatever a teacher wrote (numbers as strings, dates in ten formats, "N/A") to one
JSON value or raises AnswerError with a code. `equal` is exact agreement of standard forms; `credit`
is partial credit in 0..1 by the comparator that the field declares.
"""

import calendar
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, ClassVar, TypeAlias

from raydistill.errors import AnswerError, SetupError
from raydistill.wording import amounts, ranges

Value: TypeAlias = "str | int | None"

_NULLS = frozenset({"", "null", "none", "n/a", "na", "nil", "unknown", "not specified", "-"})
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")  # no UTF-8 holds a surrogate, no Postgres text a NUL
_ARTICLES = re.compile(r"\b(?:a|an|the)\b", re.IGNORECASE)
_WORD = re.compile(r"[\w$€£%]+(?:[.,]\d+)*")


def words(value: str) -> list[str]:
    """The lower-cased words of a phrase without its articles: what a tolerant comparison sees."""
    return _WORD.findall(_ARTICLES.sub(" ", value.replace("’", "'")).casefold())


def overlap(one: str, other: str) -> float:
    """F1 of the two phrases' words (as bags), articles and case apart; 1.0 for the same words."""
    left, right = words(one), words(other)
    if not left or not right:
        return float(one.strip().casefold() == other.strip().casefold())
    pool = list(right)
    common = 0
    for word in left:
        if word in pool:
            pool.remove(word)
            common += 1
    return 2 * common / (len(left) + len(right))


def _plain(name: str, value: Any) -> str | None:
    """A scalar as stripped text, or None for the ways people write null."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise AnswerError("wrong_type", f"{name} is {type(value).__name__}")
    text = str(value).strip()
    if _UNSTORABLE.search(text):
        raise AnswerError("bad_text", f"{name}={text[:80]!a}")
    return None if is_null(text) else text


def is_null(text: str) -> bool:
    """Whether a text is one of the ways people write null."""
    return " ".join(text.split()).casefold() in _NULLS


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """What all fields share; a kind adds `normalise` and, where credit is not 0 or 1, `_credit`."""

    kind: ClassVar[str] = ""
    snaps: ClassVar[bool] = False  # a pointer at a part of a phrase means the phrase
    name: str
    nullable: bool = False
    weight: float = 1.0

    def normalise(self, value: Any, text: str | None = None) -> Value:
        """The value's standard form; `text` is the sentence, for spans. Raises AnswerError."""
        raise NotImplementedError

    def mentions(self, text: str) -> Iterator[tuple[int, int]]:
        """Characters (start, end) of phrases in `text` that may state a value of this field."""
        return iter(())

    def read(self, phrase: str, text: str) -> Value:
        """The value that a phrase of `text` states. Raises AnswerError where it states none."""
        return self.normalise(phrase)

    def equal(self, truth: Value, answer: Value) -> bool:
        """Exact agreement of two standard forms."""
        return truth == answer

    def credit(self, truth: Value, answer: Value) -> float:
        """Partial credit in 0..1; null against a value is 0, null against null is 1."""
        if truth is None or answer is None:
            return float(truth is None and answer is None)
        return self._credit(truth, answer)

    def _credit(self, truth: Any, answer: Any) -> float:
        return float(truth == answer)

    def _null(self) -> None:
        if not self.nullable:
            raise AnswerError("missing_value", self.name)

    def spec(self) -> dict[str, Any]:
        """The field as JSON, for fingerprints and folders."""
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Text(Field):
    """An open vocabulary. `vocabulary` is its frequent head, frozen by `build`: one token each.

    `snake=True` keeps values in snake_case (event types); the tail outside the head is spelled.
    """

    kind: ClassVar[str] = "text"
    vocabulary: tuple[str, ...] = ()
    snake: bool = False

    def normalise(self, value: Any, text: str | None = None) -> Value:
        plain = _plain(self.name, value)
        if plain is None:
            return self._null()
        if self.snake:
            plain = re.sub(r"[^\w]+", "_", plain.casefold()).strip("_")
        else:
            plain = " ".join(plain.split())
        return self._null() if is_null(plain) else plain  # "none." is only seen as null by now

    def _credit(self, truth: Any, answer: Any) -> float:
        return overlap(truth.replace("_", " "), answer.replace("_", " "))


@dataclass(frozen=True, slots=True, kw_only=True)
class Span(Field):
    """A phrase that is usually copied from the sentence; else free text."""

    kind: ClassVar[str] = "span"
    nullable: bool = True

    def normalise(self, value: Any, text: str | None = None) -> Value:
        plain = _plain(self.name, value)
        if plain is None:
            return self._null()
        if text is not None and plain not in text:
            plain = _verbatim(plain, text) or " ".join(plain.split())
        return plain

    def _credit(self, truth: Any, answer: Any) -> float:
        return overlap(truth, answer)


def _verbatim(value: str, text: str) -> str | None:
    """The text's own writing of `value`, where only case, spaces or quotes differ.

    Whole words only: "IT" is not the "it" in "with".
    """
    pattern = r"\s+".join(re.escape(part) for part in value.split())
    pattern = re.sub(r"['’‘`]", "['’‘`]", pattern)
    pattern = re.sub(r'["“”]', '["“”]', pattern)
    found = re.search(rf"(?<!\w){pattern}(?!\w)", text, re.IGNORECASE)
    return found.group(0) if found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice(Field):
    """One of a closed list."""

    kind: ClassVar[str] = "choice"
    choices: tuple[str, ...] = ()

    def normalise(self, value: Any, text: str | None = None) -> Value:
        # Before nulls: "none" and "unknown" may be choices.
        written = value.strip().casefold() if isinstance(value, str) else None
        for choice in self.choices:
            if choice.casefold() == written:
                return choice
        plain = _plain(self.name, value)
        if plain is None:
            return self._null()
        raise AnswerError("unknown_choice", f"{self.name}={plain[:80]!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Integer(Field):
    """A whole number in `low..high`, both included."""

    kind: ClassVar[str] = "integer"
    low: int = 0
    high: int = 10

    def normalise(self, value: Any, text: str | None = None) -> Value:
        plain = _plain(self.name, value)
        if plain is None:
            return self._null()
        found = re.fullmatch(r"([+-]?\d{1,9})(?:\.0+)?(?:\s*/\s*(\d{1,9}))?", plain)
        if not found or (found.group(2) and int(found.group(2)) != self.high):  # "8/10" is 8
            raise AnswerError("not_a_number", f"{self.name}={plain[:80]!r}")
        number = int(found.group(1))
        if not self.low <= number <= self.high:
            raise AnswerError("out_of_range", f"{self.name}={number}, not {self.low}..{self.high}")
        return number

    def _credit(self, truth: Any, answer: Any) -> float:
        return 1.0 - abs(truth - answer) / max(1, self.high - self.low)


@dataclass(frozen=True, slots=True, kw_only=True)
class Number(Field):
    """A decimal number of any size, kept as its shortest plain text ("250000", "0.0845")."""

    kind: ClassVar[str] = "number"

    def normalise(self, value: Any, text: str | None = None) -> Value:
        plain = _plain(self.name, value)
        if plain is None:
            return self._null()
        try:
            number = Decimal(re.sub(r"^([+-]?)\s*[$€£]\s*", r"\1", plain).replace(",", ""))
        except InvalidOperation:
            raise AnswerError("not_a_number", f"{self.name}={plain[:80]!r}") from None
        if not number.is_finite() or abs(number.adjusted()) > 60:
            raise AnswerError("out_of_range", f"{self.name}={plain[:80]!r}")
        shortest = format(number, "f")  # normalize() would round to 28 digits
        if "." in shortest:
            shortest = shortest.rstrip("0").rstrip(".")
        return "0" if shortest == "-0" else shortest

    def mentions(self, text: str) -> Iterator[tuple[int, int]]:
        return (match.span() for match in _NUMBER.finditer(text))

    def _credit(self, truth: Any, answer: Any) -> float:
        return float(Decimal(truth) == Decimal(answer))


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount(Number):
    """A number with its scale, read from words too: "$2 billion" is "2000000000"."""

    kind: ClassVar[str] = "amount"
    snaps: ClassVar[bool] = True

    def normalise(self, value: Any, text: str | None = None) -> Value:
        said = amounts.read(value) if isinstance(value, str) else None
        return Number.normalise(self, value if said is None else said)

    def mentions(self, text: str) -> Iterator[tuple[int, int]]:
        return amounts.mentions(text)


_DATE_FORMATS = (
    "%Y/%m/%d", "%Y%m%d", "%m/%d/%Y", "%m-%d-%Y", "%d.%m.%Y",
    "%B %d, %Y", "%B %d %Y", "%d %B %Y", "%d %B, %Y", "%b %d, %Y", "%b %d %Y",
    "%d %b %Y", "%d-%b-%Y",
)  # fmt: skip
_MONTH_FORMATS = ("%B %Y", "%B, %Y", "%b %Y", "%b, %Y", "%m/%Y", "%Y/%m")
_MONTHS = {
    name.lower(): at
    for names in (calendar.month_name, calendar.month_abbr)
    for at, name in enumerate(names)
    if name
}
# "March 5, 2024", "5 March 2024", "Mar 2024": what nearly every date is, without trying formats.
_PLAIN_DATE = re.compile(r"(?:([0-9]{1,2}) )?([A-Za-z]+)(?: ([0-9]{1,2}))?,? ([0-9]{4})")
_UNSTATED = re.compile(r"(?:-(?:00|xx|\?\?)){1,2}$", re.IGNORECASE)  # "2024-03-00", "2024-XX-XX"
_DAY_WORDS = re.compile(
    r"(?<=\d)(?:st|nd|rd|th)\b|\bof\s|\b(?:mon|tues|wednes|thurs|fri|satur|sun)day,?\s",
    re.IGNORECASE,
)
_ISO = re.compile(r"(\d{4})(?:-(\d{1,2})(?:-(\d{1,2}))?)?(?:[T ][\d:.]+(?:Z|[+-][\d:]+)?)?")


_MONTH = (
    r"(?:January|February|March|April|May|June|July|August|September|October|November|December"
    r"|(?:Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\.?)"
)
_MENTION = re.compile(
    r"\b(?=[\djfmasond])"  # tells of most words at once that they are none
    rf"(?:{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?,? \d{{4}}"
    rf"|\d{{1,2}}(?:st|nd|rd|th)? {_MONTH},? \d{{4}}"
    rf"|{_MONTH},? \d{{4}}|\d{{4}}-\d{{1,2}}(?:-\d{{1,2}})?|\d{{1,2}}[/-]\d{{1,2}}[/-]\d{{4}}"
    r"|\d{4}/\d{1,2}/\d{1,2}|(?:19|20)\d\d)\b",
    re.IGNORECASE,
)
_YEAR = re.compile(r"\b(?:19|20)\d\d\b")
# Every mention holds four digits in a row, with less than so many characters before and after them:
# the rest of a sentence need not be looked at, which took half of what reading dates cost.
_FOUR = re.compile(r"\d{4}")
_AROUND = 24
_NUMBER = re.compile(r"(?<![\w.])[$€£]?\d[\d,]*(?:\.\d+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Date(Field):
    """An ISO date, whole or partial: "2024-03-05", "2024-03", "2024"."""

    kind: ClassVar[str] = "date"
    nullable: bool = True

    def normalise(self, value: Any, text: str | None = None) -> Value:
        if isinstance(value, str):
            return _dated(self, value)
        if isinstance(value, datetime | date):
            return value.isoformat()[:10]
        return self._standard(value)

    def _standard(self, value: Any) -> Value:
        plain = _plain(self.name, value)
        if plain is None:
            return self._null()
        iso = _ISO.fullmatch(_UNSTATED.sub("", plain))
        if iso:
            year, month, day = (int(part) if part else None for part in iso.groups())
            return self._checked(plain, year or 0, month, day)
        return self._written(plain)

    def mentions(self, text: str) -> Iterator[tuple[int, int]]:
        near = [match.start() for match in _FOUR.finditer(text)]
        if not near:
            return
        within = max(0, near[0] - _AROUND), near[-1] + _AROUND
        found = [match.span() for match in _MENTION.finditer(text, *within)]
        yield from found
        for start, end in found:  # the year alone, where the answer says no more
            for year in _YEAR.finditer(text, start, end):
                yield year.span()

    def _checked(self, plain: str, year: int, month: int | None, day: int | None) -> str:
        try:
            whole = date(year, 1 if month is None else month, 1 if day is None else day)
        except ValueError:
            raise AnswerError("bad_date", f"{self.name}={plain[:80]!r}") from None
        return whole.isoformat()[: 4 if month is None else 7 if day is None else 10]

    def _written(self, plain: str) -> str:
        cleaned = _DAY_WORDS.sub("", plain.replace(".,", ",")).strip(" .")
        cleaned = re.sub(r"\b([A-Za-z]{3,4})\.", r"\1", cleaned)
        cleaned = re.sub(r"\bsept\b", "Sep", cleaned, flags=re.IGNORECASE)
        found = _plain_date(cleaned)
        if found:
            return found
        if not cleaned.isdecimal() or len(cleaned) == 8:  # strptime reads 202412 as 2024-01-02
            for formats, length in ((_DATE_FORMATS, 10), (_MONTH_FORMATS, 7)):
                for one in formats:
                    try:
                        return datetime.strptime(cleaned, one).date().isoformat()[:length]
                    except ValueError:
                        continue
        raise AnswerError("bad_date", f"{self.name}={plain[:80]!r}")

    def _credit(self, truth: Any, answer: Any) -> float:
        """The share of the truth's parts (year, month, day) that the answer has right, in order."""
        left, right = truth.split("-"), answer.split("-")
        same = 0
        for one, other in zip(left, right, strict=False):
            if one != other:
                break
            same += 1
        return same / max(len(left), len(right))


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge(Date):
    """The first day of a range of dates, or (`over`) the first day after it; a whole ISO date.

    Phrases are read against the day that their text begins with: "[2019-07-04] Sales last year?".
    """

    kind: ClassVar[str] = "edge"
    snaps: ClassVar[bool] = True
    over: bool = False

    def normalise(self, value: Any, text: str | None = None) -> Value:
        day = Date.normalise(self, value)
        if isinstance(day, str) and len(day) != 10:
            raise AnswerError("bad_date", f"{self.name}={day}, not a whole date")
        return day

    def mentions(self, text: str) -> Iterator[tuple[int, int]]:
        return ranges.mentions(text)

    def read(self, phrase: str, text: str) -> Value:
        found = ranges.read(phrase, ranges.today_of(text))
        if found is None:
            raise AnswerError("bad_date", f"{self.name}={phrase[:80]!r}")
        day = found[1 if self.over else 0]
        return None if day is None else day.isoformat()


def _plain_date(written: str) -> str | None:
    """The date of a usual way to write one, where it is a date; the formats decide the rest."""
    match = _PLAIN_DATE.fullmatch(written)
    if not match:
        return None
    before, month, after, year = match.groups()
    at = _MONTHS.get(month.lower())
    abbreviated = len(month) == 3 and month.lower() != "may"
    if at is None or (before and (after or (abbreviated and "," in written))):
        return None
    day = before or after
    try:
        return date(int(year), at, int(day or 1)).isoformat()[: 10 if day else 7]
    except ValueError:
        return None


@lru_cache(maxsize=1 << 16)
def _dated(field: Date, written: str) -> Value:
    # strptime over all formats takes ~100 µs, and a corpus states the same dates again and again.
    return field._standard(written)  # pyright: ignore[reportPrivateUsage]


KINDS: dict[str, type[Field]] = {
    kind.kind: kind for kind in (Text, Span, Choice, Integer, Number, Amount, Date, Edge)
}


def field(spec: dict[str, Any]) -> Field:
    """The field of a `spec()`; lists become tuples. Raises SetupError on an unknown kind or key."""
    values: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in spec.items() if k != "kind"
    }
    kind = KINDS.get(str(spec.get("kind")))
    if kind is None:
        raise SetupError(
            f"field kind {spec.get('kind')!r} of {spec.get('name')!r} is unknown",
            expected=", ".join(sorted(KINDS)),
            todo="correct `kind` under task.fields",
        )
    try:
        return kind(**values)
    except TypeError as problem:
        found = f"field {spec.get('name')!r}: {problem}"
        raise SetupError(found, todo="correct task.fields") from None


def with_vocabulary(one: Text, vocabulary: tuple[str, ...]) -> Text:
    """The same field with another head."""
    return replace(one, vocabulary=vocabulary)
