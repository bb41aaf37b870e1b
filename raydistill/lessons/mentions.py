"""Mentions: names, amounts, dates and periods in a sentence that others can stand for.

Each finder proposes one `Change`: edits that belong together (every year by the same shift, every
amount by the same factor), so that what the sentence says of their order stays true. Which of them
an answer can follow is `variations`' business.
"""

import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip
_listed = re.compile(r"\w+").findall
_MEN = _listed(
    """James John Robert Michael William David Richard Joseph Thomas Charles Daniel Matthew Anthony
    Mark Donald Steven Paul Andrew Kenneth Kevin Brian George Edward Ronald Timothy Jason Jeffrey
    Gary Stephen Larry Scott Frank Gregory Raymond Patrick Peter Henry Douglas Walter Arthur"""
)
_WOMEN = _listed(
    """Mary Patricia Jennifer Linda Elizabeth Barbara Susan Jessica Sarah Karen Nancy Lisa Margaret
    Sandra Ashley Kimberly Emily Donna Michelle Carol Amanda Melissa Deborah Stephanie Rebecca
    Laura Sharon Cynthia Kathleen Amy Angela Anna Pamela Emma Nicole Helen Katherine Christine
    Diane Julie Martha Alice Janet Catherine Maria Ruth"""
)
_FIRST = {name: pool for pool in (_MEN, _WOMEN) for name in pool}
# Capitalised words that open a company's name without making it: swapped, they would change places,
# kinds and grammar elsewhere in the sentence.
_COMMON = frozenset(
    _listed(
        """A An The Our Its This That Each Such New North South East West Northern Southern Eastern
        Western First Second Third American America United National General International Global
        Bank Banc Federal State States Royal Central Standard Great Pacific Atlantic Company
        Corporation Group Holdings Trust Capital Financial Texas California Delaware Nevada York
        Jersey Florida Ohio Virginia Carolina Georgia Illinois Michigan Washington Oregon Boston
        Chicago Houston Canada China Japan India France Germany Europe Asia London In On At As By
        For From To And Of With When Under Upon During After Before Mr Ms Mrs Dr Messrs Form Item
        Exhibit Section Note"""
    )
    + list(_MONTHS)
)

_PARTNERS = r"(?:LLP|L\.L\.P\.)"
_BANKS = r"(?:Bank|N\.A\.|Trust Company|Bancorp|Bancshares)"
_FIRMS = (
    r"(?:Inc\.?|Incorporated|Corp\.?|Corporation|LLC|L\.L\.C\.|Ltd\.?|Limited|plc|PLC|Company|Co\."
    r"|Group|Holdings|Partners|L\.P\.|S\.A\.|N\.V\.|AG)"
)
_NAME = r"(?<![\w.&’'-])(?P<head>[A-Z][A-Za-z]{2,})(?=(?:,? (?:&|and|of|[A-Z][\w.&’'-]*)){0,5},? "
_COMPANY = {
    kind: re.compile(rf"{_NAME}{suffix}(?!\w))")
    for kind, suffix in (("partners", _PARTNERS), ("bank", _BANKS), ("company", _FIRMS))
}
_PLAIN = re.compile(r"(?<!\w)[a-z]{3,}(?!\w)")
_TITLED = re.compile(r"\b(?:Mr|Ms|Mrs|Dr)\.? (?:[A-Z]\.? )?(?P<last>[A-Z][a-z]{2,})\b")
_PERSON = re.compile(
    rf"\b(?P<first>{'|'.join(sorted(_FIRST))})(?: [A-Z]\.)* (?P<last>[A-Z][a-z]{{2,}})\b"
)

_MONEY = re.compile(
    r"(?P<sign>[$€£] ?)(?P<number>\d{1,3}(?:,\d{3})+|\d+)(?P<part>\.\d+)?"
    r"(?P<unit> (?:thousand|million|billion|trillion))?(?!\w|[.,]\d)"
)
_COUNT = re.compile(r"(?<![\w$€£.,])(?<![$€£] )(?P<number>\d{1,3}(?:,\d{3})+)(?![\w%]|[.,]\d)")
_PERCENT = re.compile(r"(?<![\w.,])(?P<number>\d{1,2})(?P<part>\.\d+)?(?=%| percent\b)")
_SCALE = {"": 1.0, "thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12}
BANDS = (5e6, 1e8)  # a teacher calls less than the first minor, and the second or more major

_YEAR = re.compile(r"(?<![\w.,$-])(?:19|20)\d\d(?![\w%]|[,.]\d)|(?<=[/-])(?:19|20)\d\d(?!\w)")
_ISO_DAY = re.compile(r"(?<![\w-])(?P<year>(?:19|20)\d\d)-(?P<month>\d\d)-(?P<day>\d\d)(?![\w-])")
_ACT = re.compile(r"\bAct(?:,? as amended,?)? of $|\bRule \S*$|\bTopic $")
_NAMES = "|".join(_MONTHS)
_DAY = re.compile(
    rf"\b(?P<month>{_NAMES}) (?P<day>\d{{1,2}}), (?P<year>\d{{4}})\b"
    rf"|\b(?P<day2>\d{{1,2}}) (?P<month2>{_NAMES}) (?P<year2>\d{{4}})\b"
    rf"|\b(?P<month3>{_NAMES}),? (?P<year3>\d{{4}})\b"
)
_MONTH = re.compile(rf"\b(?:{_NAMES})\b")

_PERIODS: tuple[tuple[str, ...], ...] = (
    ("last week", "last month", "last quarter"),
    ("next week", "next month", "next quarter"),
    ("earlier this week", "earlier this month", "earlier this quarter"),
    ("later this week", "later this month", "later this quarter"),
    ("within 30 days", "within 45 days", "within 60 days", "within 90 days"),
    ("30 days after", "45 days after", "60 days after", "90 days after"),
    ("six months", "nine months", "eighteen months"),
    ("two years", "three years", "four years", "five years"),
)
_PERIOD = re.compile(
    r"\b(?:" + "|".join(sorted((p for s in _PERIODS for p in s), key=len, reverse=True)) + r")\b"
)
_QUARTER = re.compile(r"\b(?P<word>first|second|third|fourth)(?= (?:fiscal )?quarter\b)")


@dataclass(frozen=True, slots=True)
class Edit:
    """Characters start..end of the sentence become `new`."""

    start: int
    end: int
    new: str


@dataclass(frozen=True, slots=True)
class Change:
    """Edits that are made together or not at all, and what they do to dates of the answer.

    `dates` maps an ISO date (or its stated part) to its new value, `years` is the shift of all
    years, and `coarse` says that a date finer than a year could only come from what changes.
    """

    edits: tuple[Edit, ...]
    dates: Mapping[str, str] = field(default_factory=dict)
    years: int = 0
    coarse: bool = False


@dataclass(frozen=True, slots=True)
class Names:
    """Names that stand in a table's own sentences: the words that can be swapped for each other."""

    heads: Mapping[str, tuple[str, ...]]
    lasts: tuple[str, ...]


def names(texts: Iterable[str]) -> Names:
    """The company words by kind and the last names found in these sentences, in a fixed order.

    A word that also stands there in lower case ("stock", "target") is no name.
    """
    heads: dict[str, set[str]] = {kind: set() for kind in _COMPANY}
    lasts: set[str] = set()
    plain: set[str] = set()
    for text in texts:
        plain |= set(_PLAIN.findall(text))
        for kind, head in _companies(text):
            heads[kind].add(head)
        lasts |= {found["last"] for found in _people(text)}

    def distinct(found: set[str]) -> tuple[str, ...]:
        return tuple(sorted(one for one in found if one.lower() not in plain))

    return Names({kind: distinct(one) for kind, one in heads.items()}, distinct(lasts))


def _companies(text: str) -> list[tuple[str, str]]:
    """(kind, first word) of the company names in a sentence."""
    out: dict[int, tuple[str, str]] = {}
    for kind, pattern in _COMPANY.items():
        for found in pattern.finditer(text):
            head = found["head"]
            if head not in _COMMON and head not in _FIRST and not _inside(found.start(), text):
                out.setdefault(found.start(), (kind, head))
    return list(out.values())


def _inside(start: int, text: str) -> bool:
    """Whether the word is a later part of a name: "Holdings" in "Acme Holdings, Inc."."""
    before = re.search(r"([A-Z][\w.&’'-]*|&)( | of | and )$", text[:start])
    return before is not None and before[1] not in _COMMON and not before[1].endswith(".")


def _people(text: str) -> list[re.Match[str]]:
    found = [one for pattern in (_PERSON, _TITLED) for one in pattern.finditer(text)]
    return sorted((one for one in found if one["last"] not in _COMMON), key=lambda one: one.start())


def change_names(text: str, pool: Names, dice: random.Random) -> Change | None:
    """Other companies and people, the same one wherever its name stands in the sentence."""
    swap: dict[str, str] = {}
    for kind, head in _companies(text):
        swap.setdefault(head, _other(pool.heads[kind], head, text, dice))
    for found in _people(text):
        swap.setdefault(found["last"], _other(pool.lasts, found["last"], text, dice))
        if first := found.groupdict().get("first"):
            swap.setdefault(first, _other(_FIRST[first], first, text, dice))
    swap = {old: new for old, new in swap.items() if new != old}
    if not swap or len(set(swap.values())) < len(swap):
        return None
    # Wherever the word stands: "Perrigo" is the "Perrigo Company plc" of the same sentence.
    words = re.compile(rf"(?<![\w’'-])(?:{'|'.join(map(re.escape, sorted(swap)))})(?![\w-])")
    return Change(tuple(Edit(f.start(), f.end(), swap[f[0]]) for f in words.finditer(text)))


def _other(pool: Sequence[str], old: str, text: str, dice: random.Random) -> str:
    """Another name of the pool that is not in the sentence; the old one where there is none."""
    for _ in range(8 if old in pool else 0):
        new = dice.choice(pool)
        if new not in text:
            return new
    return old


def change_amounts(text: str, dice: random.Random) -> Change | None:
    """Amounts of money by one factor, counts and percentages by others; order and bands stay."""
    edits: list[Edit] = []
    for pattern, limits in ((_MONEY, BANDS), (_COUNT, ()), (_PERCENT, (50.0, 100.0))):
        edits += _scaled(list(pattern.finditer(text)), limits, dice)
    return Change(tuple(edits)) if edits else None


def _scaled(found: list[re.Match[str]], limits: Sequence[float], dice: random.Random) -> list[Edit]:
    old = [_amount(one[0]) for one in found]
    for _ in range(24 if 0 < len(found) <= 40 else 0):  # more is a table
        factor = dice.choice((dice.uniform(0.55, 0.95), dice.uniform(1.05, 1.8)))
        edits = [Edit(one.start(), one.end(), _times(one, factor)) for one in found]
        new = [_amount(one.new) for one in edits]
        if all(a == 0 or a != b for a, b in zip(old, new, strict=True)) and _alike(
            old, new, limits
        ):
            return edits
    return []


def _alike(old: Sequence[float], new: Sequence[float], limits: Sequence[float]) -> bool:
    """Whether new amounts are on the old ones' sides of the limits, and in their order."""
    return all(band(a, limits) == band(b, limits) for a, b in zip(old, new, strict=True)) and all(
        (a < b) == (c < d) and (a == b) == (c == d)
        for a, c in zip(old, new, strict=True)
        for b, d in zip(old, new, strict=True)
    )


def band(amount: float, limits: Sequence[float] = BANDS) -> int:
    """How many of the limits the amount reaches: 0 is minor, 2 is major by the amount alone."""
    return sum(amount >= limit for limit in limits)


def _amount(written: str) -> float:
    number, _, unit = written.lstrip("$€£ ").replace(",", "").partition(" ")
    return float(number) * _SCALE[unit]


def _times(found: re.Match[str], factor: float) -> str:
    """The amount times a factor in its own writing: as many digits and decimals, sign, unit."""
    parts = found.groupdict()
    number, part = parts["number"], parts.get("part") or ""
    plain = number.replace(",", "")
    digits = f"{float(plain + part) * factor:.{max(0, len(part) - 1)}f}"
    whole, _, decimals = digits.partition(".")
    trailing = len(plain) - len(plain.rstrip("0")) if not part else 0
    if trailing > 1:  # "$8,700,000" stays as round as it is
        whole = str(round(int(whole), -trailing))
    if len(whole) != len(plain):
        return found[0]
    if "," in number:
        whole = f"{int(whole):,}"
    fraction = f".{decimals}" if decimals else ""
    return f"{parts.get('sign') or ''}{whole}{fraction}{parts.get('unit') or ''}"


def change_years(text: str, dice: random.Random) -> Change | None:
    """Every year later or earlier by the same number; years of laws and rules stay."""
    found = [one for one in _year_places(text) if not _ACT.search(text[: one[0]])]
    if not found:
        return None
    leap = re.search(r"\b(?:February 29|29 February|0?2/29/|\d-02-29)", text)
    shift = dice.choice((-4, 4) if leap else (-3, -2, -1, 1, 2, 3))
    edits = tuple(Edit(start, end, str(int(text[start:end]) + shift)) for start, end in found)
    if not all(1980 <= int(one.new) <= 2060 for one in edits):
        return None
    return Change(edits, years=shift)


def _year_places(text: str) -> list[tuple[int, int]]:
    places = {one.span() for one in _YEAR.finditer(text)}
    return sorted(places | {one.span("year") for one in _ISO_DAY.finditer(text)})


def change_day(text: str, dice: random.Random) -> Change | None:
    """Another month and day for the one date of a sentence; None where it has several, or none."""
    found = _DAY.search(text)
    if not found or len(_MONTH.findall(text)) != 1 or len(_year_places(text)) != 1:
        return None
    parts = found.groupdict()
    year = int(parts["year"] or parts["year2"] or parts["year3"])
    name = parts["month"] or parts["month2"] or parts["month3"]
    stated = parts["day"] or parts["day2"]
    month, day = dice.randint(1, 12), dice.randint(1, 28)
    old_month = _MONTHS.index(name) + 1
    edits = [(found.span("month"), _MONTHS[month - 1]), (found.span("day"), str(day))]
    edits += [(found.span("month2"), _MONTHS[month - 1]), (found.span("day2"), str(day))]
    edits += [(found.span("month3"), _MONTHS[month - 1])]
    old, new = f"{year}-{old_month:02d}", f"{year}-{month:02d}"
    if stated:
        try:
            old = date(year, old_month, int(stated)).isoformat()
        except ValueError:
            return None
        new = f"{new}-{day:02d}"
    if old == new:
        return None
    made = tuple(Edit(start, end, word) for (start, end), word in edits if start >= 0)
    return Change(made, dates={old: new})


def change_periods(text: str, dice: random.Random) -> Change | None:
    """Other relative periods of the same direction, and other quarters where there is one."""
    edits: list[Edit] = []
    coarse = not _MONTH.search(text)
    for found in _PERIOD.finditer(text):
        pool = next(one for one in _PERIODS if found[0] in one)
        edits.append(Edit(*found.span(), dice.choice([p for p in pool if p != found[0]])))
    quarters = list(_QUARTER.finditer(text))
    if len(quarters) == 1 and coarse:
        others = [w for w in ("first", "second", "third", "fourth") if w != quarters[0]["word"]]
        edits.append(Edit(*quarters[0].span("word"), dice.choice(others)))
    return Change(tuple(edits), coarse=coarse) if edits else None


Finder = Callable[[str, Names, random.Random], Change | None]
FINDERS: Mapping[str, Finder] = {
    "names": change_names,
    "amounts": lambda text, pool, dice: change_amounts(text, dice),
    "years": lambda text, pool, dice: change_years(text, dice),
    "days": lambda text, pool, dice: change_day(text, dice),
    "periods": lambda text, pool, dice: change_periods(text, dice),
}
