"""Ranges of dates as people write them, resolved: "last quarter", "from May to Oct 2020".

A range is (start, end): `end` is the first day that is no longer in it, and either may be None, for
a range open on that side. "From A to B" ends where B begins, as calendars of meetings have it,
unless B says that it is an end. Relative ranges need the day on which the question is asked, which
a text states at its very beginning: "[2019-07-04] What were sales last quarter?".
"""

import re
from collections.abc import Iterator
from datetime import date, timedelta
from functools import lru_cache
from typing import TypeAlias

from raydistill.wording.periods import (
    COUNT,
    DAY,
    MONTH,
    MONTHS,
    UNIT,
    Whole,
    counted,
    months_on,
    period,
    shifted,
    unit_of,
)

Range: TypeAlias = tuple[date | None, date | None]

_LONGEST = 12  # words of a phrase

_PARTS = re.compile(
    r"(?:the )?(?P<part>beginning|start|early|middle|mid|end|late|later)(?: of|-)? (?P<rest>.+)"
    r"|mid-(?P<mid>.+)"
)
_BETWEEN = re.compile(r"between (?P<first>.+?) and (?P<second>.+)")
_FROM = re.compile(
    r"(?:from |in |on )?(?P<first>.+?) ?(?:to|until|till|through|thru|–|—|-) ?(?P<second>.+)"
)
_BEFORE = re.compile(
    r"(?:before|prior to|earlier than|until|till|up to|no later than|not later than|<) ?"
    r"(?P<rest>.+)"
)
_BY_END = re.compile(r"(?:by|until|through|till) (?P<rest>(?:the )?end of .+)")
_AFTER = re.compile(
    r"(?:year )?(?:after|later than|greater than|following|past|>(?! ?=)) ?(?P<rest>.+)"
)
_SINCE = re.compile(
    r"(?:since|starting(?: from| on| in)?|beginning(?: on| in)?|from|as early as|> ?= ?) ?"
    r"(?P<rest>.+?)(?: on(?:wards?)?)?|(?P<year>.+?) (?:or|and) (?:later|after|greater)"
)
_EDGE = re.compile(rf"(?:the )?(?P<side>first|last) (?:{COUNT} )?{UNIT}s? of (?P<rest>.+)")


def _part(phrase: str, today: date | None) -> Whole | None:
    """A beginning (4 months of a year, a third of a month), middle or end of a period."""
    match = _PARTS.fullmatch(phrase)
    if match is None:
        return None
    inner = period(match["mid"] or match["rest"], today)
    if inner is None:
        return None
    part = "mid" if match["mid"] else match["part"]
    first, end = inner
    if (end - first).days < 3:
        return None
    if part in ("later",):
        return (months_on(first, 6), end) if (end - first).days > 360 else None
    days = (end - first).days
    if days > 360:
        cuts = (first, months_on(first, 4), months_on(first, 8), end)
    elif days > 26:
        cuts = (first, first + timedelta(days=10), first + timedelta(days=20), end)
    else:
        cuts = (first, first + timedelta(days=days // 2), first + timedelta(days=days // 2), end)
    if part in ("beginning", "start", "early"):
        return cuts[0], cuts[1]
    return (cuts[1], cuts[2]) if part in ("middle", "mid") else (cuts[2], cuts[3])


def _point(phrase: str, today: date | None) -> Whole | None:
    return period(phrase, today) or _part(phrase, today) or _edge(phrase, today)


def _edge(phrase: str, today: date | None) -> Whole | None:
    """The first or last N units of a period; whole weeks, where it is weeks."""
    match = _EDGE.fullmatch(phrase)
    inner = period(match["rest"], today) if match else None
    if match is None or inner is None:
        return None
    unit, many = match["unit"], counted(match["count"] or "one")
    if many is None:
        return None
    if match["side"] == "first":
        first = unit_of(inner[0], unit)[0]
        return first, shifted(first, unit, many)
    end = unit_of(inner[1] - timedelta(days=1), unit)[1]
    return shifted(end, unit, -many), end


def _pair(first: str, second: str, today: date | None) -> Range | None:
    """From one period to another; what the first leaves out (a year, a month) the second says."""
    late = _point(second, today)
    year = re.search(r"\b(?:19|20)\d\d$", second)
    early = _point(first, today) if not year or re.search(r"(?:19|20)\d\d", first) else None
    if early is None and year:
        early = period(f"{first} {year[0]}", today) or _point(first, today)
    month = re.match(rf"{MONTH} {DAY}$", first)
    if late is None and month and re.fullmatch(DAY, second):  # "april 9th through 17th"
        late = period(f"{month['month']} {second}", today)
    if early is None and late is not None and re.fullmatch(DAY, first):  # "9 to 12 of june"
        rest = re.sub(rf"^{DAY}(?: of)? ?", "", second)
        early = period(f"{first} {rest}", today)
    if early is None or late is None:
        return None
    end = late[1] if re.match(r"(?:the )?(?:end of|late) ", second) else late[0]
    if end < early[0] and not year:  # "from Nov to March" goes over New Year
        end = months_on(end, 12)
    return (early[0], end) if early[0] < end else None


def read(phrase: str, today: date | None = None) -> Range | None:
    """The range that a phrase says from end to end, asked on `today`; None where it says none."""
    return _read(" ".join(phrase.casefold().replace(" ,", ",").split()).strip(" ,.?"), today)


@lru_cache(maxsize=1 << 14)
def _read(said: str, today: date | None) -> Range | None:
    whole = _point(said, today)
    if whole is not None:
        return whole
    for pattern in (_BETWEEN, _FROM):
        for match in _splits(pattern, said):
            found = _pair(*match, today)
            if found is not None:
                return found
    if match := _BY_END.fullmatch(said):
        inner = _point(match["rest"], today)
        return (None, inner[1]) if inner else None
    if match := _BEFORE.fullmatch(said):
        inner = _point(match["rest"], today)
        return (None, inner[0]) if inner else None
    if match := _AFTER.fullmatch(said):
        inner = _point(match["rest"], today)
        if inner is None:
            return None
        return (inner[0] if (inner[1] - inner[0]).days == 1 else inner[1]), None
    if match := _SINCE.fullmatch(said):
        inner = _point(match["rest"] or match["year"], today)
        return (inner[0], None) if inner else None
    return None


def _splits(pattern: re.Pattern[str], said: str) -> Iterator[tuple[str, str]]:
    """Every way to cut a phrase in two at one of the pattern's words."""
    if pattern is _BETWEEN:
        if match := pattern.fullmatch(said):
            yield match["first"], match["second"]
            if cut := re.fullmatch(r"(?P<first>.+?)-(?P<second>.+)", said.removeprefix("between ")):
                yield cut["first"], cut["second"]
        return
    bare = re.sub(r"^(?:from|in|on|between) ", "", said)
    for mark in re.finditer(r" (?:to|until|till|through|thru) | ?[–—] ?| - |-", bare):
        if mark.start() and mark.end() < len(bare):
            yield bare[: mark.start()], bare[mark.end() :]


_ASKED = re.compile(r"\[(\d{4}-\d\d-\d\d)\] ")
_WORD = re.compile(r"[^\s,?!;()\"]+")
_STARTS = re.compile(
    rf"(?:the|between|from|before|prior|earlier|until|till|up|no|not|by|after|later|following|past"
    rf"|since|starting|beginning|as|start|early|middle|mid|end|late|calendar|fiscal|financial|full"
    rf"|year|fy|{'|'.join(MONTHS)}|(?:jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)\b|[qh][1-4]"
    rf"|\d|'|first|second|third|fourth|last|previous|prior|preceding|trailing|next|upcoming|coming"
    rf"|this|current|today|yesterday|tomorrow|ytd|qtd|mtd|quarter|month|so|week|twenties|nineties"
    rf"|eighties|seventies|sixties|two|three|four|five|six|seven|eight|nine|ten|>|<)",
    re.IGNORECASE,
)
_BARE = re.compile(r"may|march|now|\d{1,3}|\d{1,2}/\d{1,2}|second|mar|sun|dec|today", re.IGNORECASE)


def asked(question: str, today: date) -> str:
    """A question with the day on which it is asked, as every text with relative dates carries."""
    return f"[{today.isoformat()}] {question}"


def today_of(text: str) -> date | None:
    """The day on which a text says that it is asked."""
    match = _ASKED.match(text)
    try:
        return date.fromisoformat(match[1]) if match else None
    except ValueError:
        return None


@lru_cache(maxsize=1 << 10)
def found(text: str) -> tuple[tuple[int, int], ...]:
    """Characters of every phrase of a text that reads as a range, longer ones first at a place."""
    today = today_of(text)
    body = _ASKED.match(text)
    words = [match.span() for match in _WORD.finditer(text, body.end() if body else 0)]
    out: list[tuple[int, int]] = []
    for at, (start, _) in enumerate(words):
        if not _STARTS.match(text, start):
            continue
        for last in reversed(words[at : at + _LONGEST]):
            phrase = text[start : last[1]].rstrip(".:")
            phrase = phrase[:-2] if phrase.endswith("'s") and "year's" not in phrase else phrase
            bare = _BARE.fullmatch(phrase)
            if (not bare or phrase in ("May", "March")) and read(phrase, today) is not None:
                out.append((start, start + len(phrase)))
    return tuple(out)


def mentions(text: str) -> Iterator[tuple[int, int]]:
    """Characters of phrases that may state a range."""
    return iter(found(text))


def stated(text: str) -> list[Range]:
    """The ranges that a text states, by rules alone: the longest phrase at each place."""
    out: list[Range] = []
    today, until = today_of(text), 0
    for start, end in found(text):
        if start >= until:
            until = end
            one = read(text[start:end], today)
            if one is not None and one not in out:
                out.append(one)
    return out
