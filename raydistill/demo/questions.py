"""Financial questions of the demo world, each with its answer in the four tasks on questions.

    [2019-07-04] Which deals above $2 billion did Brightwater Energy sign in Ohio last quarter?
    kind list; Brightwater Energy, Ohio; 2000000000 USD; 2019-04-01 to 2019-07-01

They stand in for a teacher's answers. Everything depends on the seed alone. Some dates are said in
ways that no rule of `wording.ranges` reads, so that rules alone do not solve the demo.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raydistill.demo.names import MONTHS, ORDINALS, Company, Dice, organisation, parts, person
from raydistill.demo.names import registrants as companies_of
from raydistill.demo.phrases import read
from raydistill.errors import SetupError
from raydistill.tasks import QUESTIONS
from raydistill.wording.periods import months_on, unit_of
from raydistill.wording.ranges import Range, asked

ROWS = pa.schema([(name, pa.string()) for name in ("id", "group", "task", "text", "answer")])
KINDS = ("lookup", "list", "count", "calculation")
_SLOT = re.compile(r"\{(\w)\}")
_CODES = {"$": "USD", "US$": "USD", "€": "EUR", "£": "GBP", "C$": "CAD", "HK$": "HKD", "A$": "AUD",
          "¥": "JPY", "Rs ": "INR"}  # fmt: skip
_NAMES = {"dollars": "USD", "euros": "EUR", "pounds": "GBP", "yen": "JPY", "Swiss francs": "CHF",
          "yuan": "CNY", "Canadian dollars": "CAD", "rupees": "INR", "USD": "USD", "EUR": "EUR",
          "GBP": "GBP", "Mexican pesos": "MXN", "won": "KRW"}  # fmt: skip
_COUNTS = ("two", "three", "four", "five", "six")
_SCALES = {" million": 10**6, " billion": 10**9, " thousand": 10**3, "bn": 10**9, "m": 10**6}


@dataclass(kw_only=True, slots=True)
class Config:
    """How many questions, of how many companies; `out` is Parquet, a row a question and task."""

    root: str = "runs"
    out: str = "runs/questions.parquet"
    seed: int = 7
    questions: int = 12_000
    companies: int = 400
    held_out: float = 0.2

    def __post_init__(self) -> None:
        if self.questions < 1 or self.companies < 2:
            raise SetupError(
                f"questions={self.questions}, companies={self.companies}",
                expected="at least 1 question and 2 companies",
            )


@dataclass(slots=True)
class _Said:
    """A text under way, and what it says for each task."""

    names: list[tuple[str, str]] = field(default_factory=list)
    money: list[tuple[str, str]] = field(default_factory=list)
    ranges: list[Range] = field(default_factory=list)


def run(config: Config) -> Path:
    """Writes the demo's questions for `build task=questions`; gives the file."""
    made = table(
        seed=config.seed,
        questions=config.questions,
        companies=config.companies,
        held_out=config.held_out,
    )
    out = Path(config.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(out.name + ".tmp")
    pq.write_table(made, temporary)
    temporary.rename(out)
    print(f"questions: {len(made):,} rows of {len(QUESTIONS)} tasks in {out}")
    return out


def table(*, seed: int, questions: int, companies: int = 400, held_out: float = 0.2) -> pa.Table:
    """ROWS of `questions` texts, a row for each task that reads them; `group` is the company."""
    everyone = companies_of(seed, companies, held_out)
    rows = [row for at in range(questions) for row in _rows(seed, at, everyone[at % companies])]
    return pa.Table.from_pylist(rows, schema=ROWS)


def held_out_companies(seed: int, companies: int = 400, held_out: float = 0.2) -> list[str]:
    """The groups whose questions have phrasings and names that no other group's have."""
    return [one.cik for one in companies_of(seed, companies, held_out) if one.held_out]


def _rows(seed: int, number: int, company: Company) -> Iterator[dict[str, str]]:
    dice = Dice(f"{seed}:question:{number}")
    today = date(2012, 1, 1) + timedelta(days=dice.below(4_700))
    kind = dice.pick(KINDS) if dice.roll() < 0.65 else None
    spec = phrasings()["statements" if kind is None else kind]
    unseen = company.held_out and dice.roll() < 0.5
    phrasing: str = dice.pick(spec["unseen" if unseen else "seen"])
    text, said = _spoken(phrasing, dice, company, today)
    values: dict[str, list[dict[str, Any]]] = {
        "query_entities": [{"name": name, "type": type} for name, type in said.names],
        "query_currency": [{"amount": one, "currency": code} for one, code in said.money],
        "query_dates": [{"start": start, "end": end} for start, end in said.ranges],
    }
    if kind is not None:
        values["query_kind"] = [{"kind": kind}]
    for task in QUESTIONS:
        if task.name in values:
            read = asked(text, today) if task.name == "query_dates" else text
            answer = task.render(task.answer(values[task.name], read))
            id = f"question-{seed}-{number}-{task.name}"
            yield dict(zip(ROWS.names, (id, company.cik, task.name, read, answer), strict=True))


@lru_cache
def phrasings() -> Mapping[str, Any]:
    """The phrasings and word lists of `demo/questions.yaml`."""
    return read("questions")


def _spoken(phrasing: str, dice: Dice, company: Company, today: date) -> tuple[str, _Said]:
    """The text of a phrasing with its slots filled, in one of several writings."""
    said, style = _Said(), _style(dice)
    out: list[str] = []
    at = 0
    last = today.year - dice.below(4)
    years = [last - 1 - dice.below(3), last]
    for slot in _SLOT.finditer(phrasing):
        out.append(style(phrasing[at : slot.start()]))
        at = slot.end()
        out.append(_filled(slot[1], dice, company, today, years, said, style))
    out.append(style(phrasing[at:]))
    if re.search(r"(?:between|from) \{Y\} (?:and|to) \{Z\}", phrasing):
        said.ranges = [(date(years[0], 1, 1), date(years[-1], 1, 1))]
    text = "".join(out)
    return (text[0].upper() + text[1:] if _opens(phrasing, style) else text), said


def _opens(phrasing: str, style: Callable[[str], str]) -> bool:
    return phrasing.startswith("{D}") and style("A") == "A"


def _style(dice: Dice) -> Callable[[str], str]:
    """How the text is written: as typed, in tokens ("$ 5 million ,"), or in lower case, or both."""
    roll = dice.roll()
    spaced, lower = 0.65 <= roll < 0.85 or roll >= 0.95, roll >= 0.80

    def written(text: str) -> str:
        if spaced:
            text = re.sub(r"(?<=\w)(?=[,?;.](?:\s|$))|(?<=\w)(?='s\b)|(?<=[$€£])(?=\d)", " ", text)
        return text.lower() if lower else text

    return written


def _filled(
    slot: str,
    dice: Dice,
    company: Company,
    today: date,
    years: list[int],
    said: _Said,
    style: Callable[[str], str],
) -> str:
    """The words of one slot; what they say goes into `said`."""
    words = phrasings()
    if slot in "CKPL":
        kind = {"P": "person", "L": "place"}.get(slot, "company")
        name = style(_name(slot, dice, company))
        if (name, kind) not in said.names:
            said.names.append((name, kind))
        return name
    if slot in "MN":
        text, number, code = money(dice)
        if (number, code) not in said.money:
            said.money.append((number, code))
        return style(text)
    if slot in "YZ":
        year = years[0] if slot == "Y" else years[-1]
        said.ranges.append(unit_of(date(year, 1, 1), "year"))
        return str(year)
    if slot == "D":
        text, one = when(dice, today)
        if one is not None and one not in said.ranges:
            said.ranges.append(one)
        return style(text)
    return style(dice.pick(words["noise" if slot == "S" else "figures"]))


def _name(slot: str, dice: Dice, company: Company) -> str:
    words = phrasings()
    if slot == "P":
        return person(dice)
    if slot == "L":
        return dice.pick(words["places"])
    roll = dice.roll()
    if slot == "C" and roll < 0.6:
        return company.name.rstrip(".") if roll < 0.35 else company.short
    if roll < 0.75:
        return organisation(dice, company.held_out)
    if roll < 0.9:
        return dice.pick(words["short"]) + dice.pick(("", "", " Inc", " Corp", " & Co", " Ltd"))
    return dice.pick(parts()[dice.pick(("bank", "auditor"))])


def money(dice: Dice) -> tuple[str, str, str]:
    """An amount as people write it, its number in digits, and its currency's code."""
    roll, whole = dice.roll(), dice.between(1, 990)
    number, digits = whole * 10, str(whole)
    if roll < 0.2:
        digits = f"{whole},{dice.below(10)}00" if roll < 0.15 else f"{whole},500,000"
        number, scale = int(digits.replace(",", "")) * 10, ""
    else:
        scale = dice.pick(tuple(_SCALES)) if roll < 0.85 else ""
        if roll < 0.5 and scale:
            tenth = dice.below(9) + 1
            number, digits = number + tenth, f"{whole}.{tenth}"
    number = number * _SCALES.get(scale, 1)
    value = str(number // 10) if number % 10 == 0 else f"{number // 10}.{number % 10}"
    if dice.roll() < 0.6 or scale in ("bn", "m"):
        sign = dice.pick((*["$"] * 8, *_CODES))
        return f"{sign}{digits}{scale}", value, _CODES[sign]
    name = dice.pick((*["dollars"] * 4, *_NAMES))
    if name.isupper() and dice.roll() < 0.5:
        return f"{name} {digits}{scale}", value, _NAMES[name]
    return f"{digits}{scale} {name}", value, _NAMES[name]


def when(dice: Dice, today: date) -> tuple[str, Range | None]:
    """When, as people say it, and the range it means on a day; None where it means none."""
    say = dice.pick((_absolute, _absolute, _relative, _sided, _paired, _unruly))
    return say(dice, today) if dice.roll() < 0.9 else (dice.pick(_TIMELESS), None)


_TIMELESS = ("at that time", "under the agreement", "so far", "in the table", "in the past", "now")


def _absolute(dice: Dice, today: date) -> tuple[str, Range | None]:
    year = today.year - dice.below(12)
    quarter, month = dice.below(4), dice.below(12)
    day = date(year, 1, 1) + timedelta(days=dice.below(365))
    name = MONTHS[month]
    short = dice.pick((name, name, name[:3]))
    if dice.roll() < 0.45:
        return dice.pick((f"in {year}", f"in fiscal {year}", f"for the year {year}", f"in FY{year}",
                          f"FY{year % 100:02d}")), unit_of(day, "year")  # fmt: skip
    roll = dice.roll()
    if roll < 0.4:
        text = dice.pick((f"in Q{quarter + 1} {year}", f"in {year} Q{quarter + 1}",
                          f"in the {ORDINALS[quarter]} quarter of {year}"))  # fmt: skip
        return text, unit_of(date(year, 3 * quarter + 1, 1), "quarter")
    if roll < 0.6:
        return f"in {short} {year}", unit_of(date(year, month + 1, 1), "month")
    if roll < 0.75:
        half = dice.below(2)
        text = dice.pick((f"in the {ORDINALS[half]} half of {year}", f"in H{half + 1} {year}"))
        first = date(year, 6 * half + 1, 1)
        return text, (first, months_on(first, 6))
    written = dice.pick((f"{MONTHS[day.month - 1]} {day.day}, {year}", day.isoformat(),
                         f"{day.day} {MONTHS[day.month - 1]} {year}"))  # fmt: skip
    return f"on {written}", unit_of(day, "day")


def _relative(dice: Dice, today: date) -> tuple[str, Range | None]:
    unit = dice.pick(("day", "week", "month", "quarter", "year", "quarter", "year"))
    first, end = unit_of(today, unit)
    roll = dice.roll()
    if roll < 0.3:
        past = first - timedelta(days=1)
        return f"{dice.pick(('last', 'previous', 'past'))} {unit}", unit_of(past, unit)
    if roll < 0.45:
        return f"{dice.pick(('this', 'the current'))} {unit}", (first, end)
    if roll < 0.55:
        return f"next {unit}", unit_of(end, unit)
    if roll < 0.65:
        return dice.pick(("year to date", "so far this year")), (date(today.year, 1, 1), today)
    count = dice.between(2, 6)
    said = dice.pick((str(count), _COUNTS[count - 2]))
    unit, months = dice.pick((("month", 1), ("year", 12)))
    back = f"{dice.pick(('in', 'over', 'during'))} the {dice.pick(('last', 'past', 'previous'))}"
    return f"{back} {said} {unit}s", (months_on(today, -months * count), today)


def _sided(dice: Dice, today: date) -> tuple[str, Range | None]:
    year = today.year - 1 - dice.below(10)
    month = dice.below(12)
    roll = dice.roll()
    if roll < 0.4:
        words = f"{dice.pick(('since', 'since', 'starting in'))} "
        if roll < 0.2:
            return f"{words}{year}", (date(year, 1, 1), None)
        return f"{words}{MONTHS[month]} {year}", (date(year, month + 1, 1), None)
    if roll < 0.7:
        return f"{dice.pick(('before', 'prior to'))} {year}", (None, date(year, 1, 1))
    return f"after {year}", (date(year + 1, 1, 1), None)


def _paired(dice: Dice, today: date) -> tuple[str, Range | None]:
    late = today.year - dice.below(5)
    early = late - 1 - dice.below(6)
    one, other = dice.below(6), 6 + dice.below(6)
    if dice.roll() < 0.5:
        text = dice.pick((f"between {early} and {late}", f"from {early} to {late}",
                          f"{early}-{late}", f"from {early} through {late}"))  # fmt: skip
        return text, (date(early, 1, 1), date(late, 1, 1))
    text = dice.pick((f"from {MONTHS[one]} to {MONTHS[other]} {late}",
                      f"between {MONTHS[one]} {late} and {MONTHS[other]} {late}"))  # fmt: skip
    return text, (date(late, one + 1, 1), date(late, other + 1, 1))


def _unruly(dice: Dice, today: date) -> tuple[str, Range | None]:
    """Ways to say a range that the rules do not read."""
    quarter = unit_of(today, "quarter")[0]
    year = today.year - dice.below(6)
    roll = dice.below(6)
    if roll == 0:
        return "in the year before last", unit_of(date(today.year - 2, 1, 1), "year")
    if roll == 1:
        return "in the quarter before last", unit_of(months_on(quarter, -6), "quarter")
    if roll == 2:
        return "two years ago", unit_of(date(today.year - 2, 1, 1), "year")
    if roll == 3:
        end = date(year, dice.pick((3, 6, 9, 12)), 1)
        last = unit_of(end, "month")[1]
        text = (
            f"for the year ended {MONTHS[end.month - 1]} {(last - timedelta(days=1)).day}, {year}"
        )
        return text, (months_on(last, -12), last)
    if roll == 4:
        return f"in the closing months of {year}", (date(year, 10, 1), date(year + 1, 1, 1))
    return "in the same quarter a year ago", unit_of(months_on(quarter, -12), "quarter")
