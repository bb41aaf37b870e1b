"""One period as people write it, resolved: a day, a week, a month, a quarter, a year, a decade.

Calendar periods may leave out the year: then the latest is meant that has begun. Periods counted
from the day on which a question is asked ("the last three quarters") need that day. A period is
(first day, first day after it).
"""

import re
from collections.abc import Callable
from datetime import date, timedelta
from functools import lru_cache
from typing import TypeAlias

from raydistill.wording.amounts import number

Whole: TypeAlias = tuple[date, date]

MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
MONTH = rf"(?P<month>{'|'.join(MONTHS)}|(?:jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)\.?)"
_YEAR = r"(?P<year>(?:19|20)\d\d)"
DAY = r"(?:the )?(?P<day>\d{1,2})(?:st|nd|rd|th)?(?: day)?"
_ORDINALS = {"first": 1, "1st": 1, "second": 2, "2nd": 2, "third": 3, "3rd": 3, "fourth": 4,
             "4th": 4}  # fmt: skip
_ORDINAL = rf"(?P<ordinal>{'|'.join(_ORDINALS)}|last)"
COUNT = r"(?P<count>\d{1,3}|[a-z]+(?:-[a-z]+)?)"
UNIT = r"(?P<unit>day|week|fortnight|month|quarter|year|decade)"
_BACK = ("last", "past", "previous", "prior", "preceding", "trailing")
_AHEAD = ("next", "following", "upcoming", "coming")
_STEP = rf"(?P<step>{'|'.join((*_BACK, *_AHEAD))})"


def day_after(day: date) -> date:
    """The next day."""
    return day + timedelta(days=1)


def months_on(day: date, count: int) -> date:
    """The same day of the month `count` months later, or that month's last day."""
    at = day.year * 12 + day.month - 1 + count
    year, month = divmod(at, 12)
    for last in (day.day, 30, 29, 28):
        try:
            return date(year, month + 1, min(day.day, last))
        except ValueError:
            continue
    raise ValueError(day)


def unit_of(day: date, unit: str) -> Whole:
    """The whole day, week (from Monday), month, quarter, year or decade that holds a day."""
    if unit == "day":
        return day, day_after(day)
    if unit in ("week", "fortnight"):
        monday = day - timedelta(days=day.weekday())
        return monday, monday + timedelta(days=7 if unit == "week" else 14)
    first = date(day.year, day.month, 1)
    if unit == "quarter":
        first = date(day.year, 3 * ((day.month - 1) // 3) + 1, 1)
    elif unit == "year":
        first = date(day.year, 1, 1)
    elif unit == "decade":
        first = date(day.year - day.year % 10, 1, 1)
    return first, months_on(first, _SPANS[unit])


_SPANS = {"month": 1, "quarter": 3, "year": 12, "decade": 120}


def shifted(day: date, unit: str, count: int) -> date:
    """A day `count` units later (earlier where negative)."""
    if unit in _SPANS:
        return months_on(day, _SPANS[unit] * count)
    return day + timedelta(days={"day": 1, "week": 7, "fortnight": 14}[unit] * count)


Reader: TypeAlias = Callable[[re.Match[str], date | None], Whole | None]


def _month_number(written: str) -> int:
    return next(at for at, name in enumerate(MONTHS, 1) if name.startswith(written[:3]))


def _dated(match: re.Match[str], today: date | None) -> Whole | None:
    """A year with a month and a day, or without; the latest begun where there is no year."""
    parts = match.groupdict()
    month = parts.get("month")
    at = int(month) if month and month.isdigit() else _month_number(month) if month else 1
    day = int(parts.get("day") or 1)
    unit = "day" if parts.get("day") else "month" if month else "year"
    if parts.get("year"):
        return unit_of(date(int(parts["year"]), at, day), unit)
    if today is None:
        return None
    first = date(today.year, at, day)
    return unit_of(first if first <= today else date(today.year - 1, at, day), unit)


def _short_year(match: re.Match[str], today: date | None) -> Whole | None:
    return unit_of(date(2000 + int(match["short"]), 1, 1), "year")


def _quarter(match: re.Match[str], today: date | None) -> Whole | None:
    """A quarter or half of a year, stated or the latest begun."""
    parts = match.groupdict()
    which = parts.get("number") or _ORDINALS.get(parts.get("ordinal") or "", 4)
    length = 6 if (parts.get("part") or "q")[0] == "h" else 3
    if length == 6 and parts.get("ordinal") == "last":
        which = 2
    if length * int(which) > 12:
        return None
    year = parts.get("year") or (parts.get("short") and f"20{parts['short']}")
    if year is None and today is None:
        return None
    back = {"last": -1, "next": 1}.get((parts.get("which") or "").strip(), 0)
    base = int(year) if year else (today or date.min).year + back
    first = date(base, length * (int(which) - 1) + 1, 1)
    if year is None and not parts.get("which") and today is not None and first > today:
        first = date(base - 1, first.month, 1)
    return first, months_on(first, length)


def _stepped(match: re.Match[str], today: date | None) -> Whole | None:
    """The last or next N units: quarters and decades of the calendar, others from today."""
    if today is None:
        return None
    parts, unit = match.groupdict(), match["unit"]
    back = match["step"] in _BACK
    count = parts.get("count")
    many = 1 if count is None else counted(count)
    if many is None:
        return None
    if count is None or unit in ("quarter", "decade"):
        first, end = unit_of(today, unit)
        return (shifted(first, unit, -many), first) if back else (end, shifted(end, unit, many))
    if back:
        return shifted(today, unit, -many), today
    return day_after(today), shifted(day_after(today), unit, many)


def counted(words: str) -> int | None:
    if words in ("couple", "a"):
        return 2 if words == "couple" else 1
    value = number(words)
    return int(value) if value is not None and 0 < value < 400 and value == int(value) else None


def _current(match: re.Match[str], today: date | None) -> Whole | None:
    return None if today is None else unit_of(today, match["unit"])


def _named_day(match: re.Match[str], today: date | None) -> Whole | None:
    if today is None:
        return None
    offset = {"yesterday": -1, "tomorrow": 1}.get(match["named"], 0)
    return unit_of(today + timedelta(days=offset), "day")


def _to_date(match: re.Match[str], today: date | None) -> Whole | None:
    if today is None:
        return None
    unit = {"y": "year", "q": "quarter", "m": "month"}[match["unit"][0]]
    return unit_of(today, unit)[0], today


def _week(match: re.Match[str], today: date | None) -> Whole | None:
    """Week N of a year (ISO), of this year where none is stated."""
    parts = match.groupdict()
    if not parts.get("year") and today is None:
        return None
    year = int(parts.get("year") or (today or date.min).year)
    which = int(parts.get("week") or _ORDINALS.get(parts.get("ordinal") or "", 0))
    if which:
        first = date.fromisocalendar(year, which, 1)
    else:
        first = unit_of(date(year, 12, 28), "week")[0]  # the 28th is always in the last week
    return first, first + timedelta(days=7)


def _decade(match: re.Match[str], today: date | None) -> Whole | None:
    names = ("twenties", "thirties", "forties", "fifties", "sixties", "seventies", "eighties")
    written = match["decade"]
    if written[0].isdigit():
        first = int(written[:-1].rstrip("'")) % 100
    else:
        first = 90 if written == "nineties" else 20 + 10 * names.index(written)
    century = 2000 if match.groupdict().get("century") == "20" or first < 30 else 1900
    return date(century + first, 1, 1), date(century + first + 10, 1, 1)


_PERIODS: tuple[tuple[re.Pattern[str], Reader], ...] = tuple(
    (re.compile(pattern), reader)
    for pattern, reader in (
        (rf"(?:(?:calendar|fiscal|financial|full) )?(?:the )?(?:year )?{_YEAR}", _dated),
        (r"(?:fy|fiscal(?: year)?) ?'?(?P<short>\d\d)", _short_year),
        (r"(?:the )?(?:fy|fiscal year|year|year of) ?(?P<year>(?:19|20)\d\d)", _dated),
        (rf"{MONTH}(?:,| of| in|-|/)? ?{_YEAR}", _dated),
        (rf"{_YEAR}[ /-]{MONTH}", _dated),
        (rf"{MONTH} {DAY}(?: of| in|,)? {_YEAR}", _dated),
        (rf"{DAY}(?: of| in|-|/)? ?{MONTH}(?: of| in|,|-|/)? ?{_YEAR}", _dated),
        (r"(?P<year>\d{4})[-/](?P<month>\d{1,2})[-/](?P<day>\d{1,2})", _dated),
        (rf"{_YEAR}/{MONTH}/{DAY}", _dated),
        (r"(?P<month>\d{1,2})[-/](?P<day>\d{1,2})[-/](?P<year>\d{4})", _dated),
        (r"(?P<year>\d{4})-(?P<month>\d\d)", _dated),
        (rf"(?:this )?{MONTH}", _dated),
        (rf"{MONTH} {DAY}", _dated),
        (rf"{DAY}(?: of)? {MONTH}", _dated),
        (r"(?P<month>\d{1,2})/(?P<day>\d{1,2})", _dated),
        (rf"(?P<part>[qh])(?P<number>[1-4])(?:,? ?(?:of )?(?:fy)?{_YEAR})?", _quarter),
        (r"(?P<part>[qh])(?P<number>[1-4])(?:,? ?(?:of )?(?:fy)? ?'?(?P<short>\d\d))", _quarter),
        (rf"{_YEAR}[ -]?(?P<part>[qh])(?P<number>[1-4])", _quarter),
        (
            rf"(?:the )?{_ORDINAL} (?P<part>quarter|half)(?: of|,)?(?: fiscal| the year)? {_YEAR}",
            _quarter,
        ),
        (rf"(?:the )?{_YEAR}(?:'s)? {_ORDINAL} (?P<part>quarter|half)", _quarter),
        (
            rf"(?:the )?{_ORDINAL} (?P<part>quarter|half) of (?P<which>last |next |this |the )year",
            _quarter,
        ),
        (rf"(?P<which>last |next |this )year's {_ORDINAL} (?P<part>quarter|half)", _quarter),
        (r"(?:the )?(?P<ordinal>first|second|third|fourth) (?P<part>quarter)", _quarter),
        (rf"(?:the )?{_STEP} {COUNT} {UNIT}s?", _stepped),
        (rf"(?:the )?{COUNT} {_STEP} {UNIT}s?", _stepped),
        (rf"(?:the )?{_STEP} {UNIT}", _stepped),
        (rf"(?:the )?(?:this|current) {UNIT}", _current),
        (r"(?P<named>today|yesterday|tomorrow|now|current date)", _named_day),
        (r"(?P<unit>ytd|qtd|mtd|year[ -]to[ -]date|quarter[ -]to[ -]date|month[ -]to[ -]date)",
         _to_date),
        (r"so far this (?P<unit>year|quarter|month)", _to_date),
        (rf"(?:the )?week (?P<week>\d{{1,2}})(?: of {_YEAR})?", _week),
        (rf"(?:the )?{_ORDINAL} week of {_YEAR}", _week),
        (r"(?:the )?(?P<century>19|20)(?P<decade>\d0'?s)", _decade),
        (r"(?:the )?(?P<decade>twenties|thirties|forties|fifties|sixties|seventies|eighties"
         r"|nineties)", _decade),
    )
)  # fmt: skip


@lru_cache(maxsize=1 << 14)
def period(phrase: str, today: date | None) -> Whole | None:
    """The one period that a lower-case phrase names, or None."""
    for pattern, reader in _PERIODS:
        match = pattern.fullmatch(phrase)
        if match is not None:
            try:
                made = reader(match, today)
            except (ValueError, OverflowError):
                continue  # 31 June
            if made is not None:
                return made
    return None
