"""Fields: what one value of an answer may be, its one standard form, and how two values compare.

A field normalises whatever a teacher wrote (numbers as strings, dates in ten formats, "N/A") to one
JSON value or raises AnswerError with a code. `equal` is exact agreement of standard forms; `credit`
is partial credit in 0..1 by the comparator that the field declares.
"""

import re
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, ClassVar, TypeAlias

from raydistill.errors import AnswerError, SetupError

Value: TypeAlias = "str | int | None"

_NULLS = frozenset({"", "null", "none", "n/a", "na", "nil", "unknown", "not specified", "-"})
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
    return None if text.casefold() in _NULLS else text


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """What all fields share; a kind adds `normalise` and, where credit is not 0 or 1, `_credit`."""

    kind: ClassVar[str] = ""
    name: str
    nullable: bool = False
    weight: float = 1.0

    def normalise(self, value: Any, text: str | None = None) -> Value:
        """The value's standard form; `text` is the sentence, for spans. Raises AnswerError."""
        raise NotImplementedError

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
        if not plain:
            return self._null()
        return plain

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
    """The text's own writing of `value`, where only case, spaces or quotes differ."""
    parts = [re.escape(part) for part in re.split(r"\s+", value) if part]
    pattern = r"\s+".join(parts)
    pattern = re.sub(r"['’‘`]", "['’‘`]", pattern)
    pattern = re.sub(r'["“”]', '["“”]', pattern)
    found = re.search(pattern, text, re.IGNORECASE)
    return found.group(0) if found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice(Field):
    """One of a closed list."""

    kind: ClassVar[str] = "choice"
    choices: tuple[str, ...] = ()

    def normalise(self, value: Any, text: str | None = None) -> Value:
        plain = _plain(self.name, value)
        if plain is None:
            return self._null()
        for choice in self.choices:
            if choice.casefold() == plain.casefold():
                return choice
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
        found = re.fullmatch(r"([+-]?\d{1,9})(?:\.0+)?(?:\s*/\s*\d+)?", plain)
        if not found:
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
            number = Decimal(plain.replace(",", "").replace("_", "").lstrip("$€£ "))
        except InvalidOperation:
            raise AnswerError("not_a_number", f"{self.name}={plain[:80]!r}") from None
        if not number.is_finite() or abs(number.adjusted()) > 60:
            raise AnswerError("out_of_range", f"{self.name}={plain[:80]!r}")
        shortest = format(number.normalize(), "f")
        return "0" if shortest in ("-0", "0") else shortest

    def _credit(self, truth: Any, answer: Any) -> float:
        return float(Decimal(truth) == Decimal(answer))


_DATE_FORMATS = (
    "%Y/%m/%d", "%Y%m%d", "%m/%d/%Y", "%m-%d-%Y", "%d.%m.%Y",
    "%B %d, %Y", "%B %d %Y", "%d %B %Y", "%d %B, %Y", "%b %d, %Y", "%b %d %Y",
    "%d %b %Y", "%d-%b-%Y",
)  # fmt: skip
_MONTH_FORMATS = ("%B %Y", "%B, %Y", "%b %Y", "%b, %Y", "%m/%Y", "%Y/%m")
_ISO = re.compile(r"(\d{4})(?:-(\d{1,2})(?:-(\d{1,2}))?)?(?:[T ][\d:.]+(?:Z|[+-][\d:]+)?)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Date(Field):
    """An ISO date, whole or partial: "2024-03-05", "2024-03", "2024"."""

    kind: ClassVar[str] = "date"
    nullable: bool = True

    def normalise(self, value: Any, text: str | None = None) -> Value:
        if isinstance(value, datetime | date):
            return value.isoformat()[:10]
        plain = _plain(self.name, value)
        if plain is None:
            return self._null()
        iso = _ISO.fullmatch(plain) or _ISO.fullmatch(re.sub(r"-(?:00|XX|xx|\?\?)", "", plain))
        if iso and not re.fullmatch(r"\d{8}", plain):
            return self._checked(plain, *(int(part) if part else None for part in iso.groups()))
        return self._written(plain)

    def _checked(self, plain: str, year: int | None, month: int | None, day: int | None) -> str:
        try:
            whole = date(year or 0, month or 1, day or 1).isoformat()
        except ValueError:
            raise AnswerError("bad_date", f"{self.name}={plain[:80]!r}") from None
        return whole[:10] if day else whole[:7] if month else whole[:4]

    def _written(self, plain: str) -> str:
        cleaned = re.sub(r"(\d)(?:st|nd|rd|th)\b", r"\1", plain.replace(".,", ",")).strip(" .")
        cleaned = re.sub(r"\b([A-Za-z]{3,4})\.", r"\1", cleaned).replace("Sept ", "Sep ")
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


KINDS: dict[str, type[Field]] = {
    kind.kind: kind for kind in (Text, Span, Choice, Integer, Number, Date)
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
