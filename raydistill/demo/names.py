"""Names, amounts and dates of the demo world: who and what its sentences speak of."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from itertools import product
from typing import Any, TypeVar

from raydistill.demo.phrases import read
from raydistill.errors import SetupError

T = TypeVar("T")

MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
ORDINALS = ("first", "second", "third", "fourth")


class Dice:
    """Draws that depend on the seed alone.

    Only `Random.random` is used: it is the one draw Python promises to keep across versions.
    """

    def __init__(self, seed: str) -> None:
        self.roll: Callable[[], float] = random.Random(seed).random

    def below(self, end: int) -> int:
        return int(self.roll() * end)

    def between(self, low: int, high: int) -> int:
        return low + int(self.roll() * (high - low + 1))

    def pick(self, choices: Sequence[T]) -> T:
        return choices[int(self.roll() * len(choices))]


@dataclass(frozen=True)
class Company:
    """A synthetic registrant. `short` is what its filings call it."""

    name: str
    short: str
    cik: str
    held_out: bool


@lru_cache
def parts() -> dict[str, Any]:
    """The parts names are built from, as in `demo/names.yaml`."""
    return read("names")


@lru_cache(maxsize=8)
def registrants(seed: int, count: int, held_out: float) -> tuple[Company, ...]:
    """`count` companies of distinct names, the held-out ones spread evenly among them."""
    pools = {kind: _names(seed, parts()["companies"][kind]) for kind in ("seen", "held_out")}
    suffixes: list[str] = parts()["companies"]["suffixes"]
    dice = Dice(f"{seed}:companies")
    out: list[Company] = []
    for number in range(count):
        kept_back = int((number + 1) * held_out) > int(number * held_out)
        pool = pools["held_out" if kept_back else "seen"]
        if not pool:
            raise SetupError(
                f"no more company names after {number}",
                expected="at most about 2,300 held-out and 23,000 other companies",
                todo="ask for fewer companies or a smaller held_out share",
            )
        stem, sector = pool.pop()
        name = f"{stem} {sector}{dice.pick(suffixes)}"
        out.append(Company(name, stem, f"{1_000_000 + 37 * number:010d}", kept_back))
    return tuple(out)


def _names(seed: int, pool: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    dice = Dice(f"{seed}:names")
    pairs = product(pool["heads"], pool["ends"], pool["sectors"])
    stems = [(head + end, sector) for head, end, sector in pairs if head.lower() != end]
    return [pair for _, pair in sorted((dice.roll(), pair) for pair in stems)]


def organisation(dice: Dice, held_out: bool) -> str:
    """Another company, built from the parts of the same side of the split; never ends in a dot."""
    pool = parts()["companies"]["held_out" if held_out else "seen"]
    stem = dice.pick(pool["heads"]) + dice.pick(pool["ends"])
    suffix: str = dice.pick(parts()["companies"]["plain_suffixes"])
    return f"{stem} {dice.pick(pool['sectors'])}{suffix}"


def person(dice: Dice) -> str:
    last: str = dice.pick(parts()["last"])
    style = dice.roll()
    if style < 0.12:
        return f"Mr. {last}"
    return f"Ms. {last}" if style < 0.24 else f"{dice.pick(parts()['first'])} {last}"


def amount(dice: Dice) -> str:
    """An amount of money; a third each is minor, moderate and major by the guideline."""
    band = dice.below(6)
    if band == 0:
        return f"${dice.between(100, 950)},000"
    if band == 1:
        return f"${dice.between(1, 4)}.{dice.below(10)} million"
    if band == 2:
        return f"${dice.between(5, 99)}.{dice.below(10)} million"
    if band == 3:
        return f"${dice.between(5, 99)} million"
    if band == 4:
        return f"${dice.between(100, 990)} million"
    return f"${dice.between(1, 9)}.{dice.below(10)} billion"


def dollars(text: str) -> float:
    """The value of an amount as `amount` writes it."""
    number, _, unit = text.lstrip("$").replace(",", "").partition(" ")
    return float(number) * {"": 1, "million": 1e6, "billion": 1e9}[unit]


def _rate(dice: Dice) -> str:
    return f"${dice.below(40)}.{dice.below(10)}{dice.below(10)} per share"


def _shares(dice: Dice) -> str:
    return f"{dice.between(1, 40)},{dice.below(10)}00,000 shares"


def _notes(dice: Dice) -> str:
    coupon = f"{dice.between(2, 11)}.{dice.pick(('00', '25', '50', '75', '875'))}%"
    rank = dice.pick(("senior notes", "senior secured notes", "convertible notes", "debentures"))
    return f"{coupon} {rank} due {dice.between(2026, 2049)}"


def _people(dice: Dice) -> str:
    return f"{dice.between(2, 98)}0 {dice.pick(('employees', 'workers', 'staff members'))}"


def _product(dice: Dice) -> str:
    pool = parts()["products"]
    return f"{dice.pick(pool['heads'])}{dice.pick(pool['ends'])} {dice.pick(pool['models'])}"


def _drug(dice: Dice) -> str:
    pool = parts()["drugs"]
    return f"{dice.pick(pool['heads'])}{dice.pick(pool['middles'])}{dice.pick(pool['ends'])}"


_DRAWS: Mapping[str, Callable[[Dice], str]] = {
    "person": person,
    "amount": amount,
    "rate": _rate,
    "shares": _shares,
    "notes": _notes,
    "people": _people,
    "product": _product,
    "drug": _drug,
}


def value(kind: str, dice: Dice, held_out: bool) -> str:
    """A value for a slot of this kind."""
    if kind == "org":
        return organisation(dice, held_out)
    draw = _DRAWS.get(kind)
    return draw(dice) if draw else dice.pick(pools()[kind])


def long_date(day: date) -> str:
    return f"{MONTHS[day.month - 1]} {day.day}, {day.year}"


@lru_cache
def pools() -> Mapping[str, Sequence[str]]:
    """Ready-made strings by kind, for what is drawn most often."""
    dice = Dice("pools")
    days = [date(1999, 1, 1) + timedelta(days=dice.below(9_500)) for _ in range(4_000)]
    made: dict[str, Sequence[str]] = {
        "num": [f"{dice.below(10 ** dice.between(3, 7)):,}" for _ in range(4_000)],
        "money": [amount(dice) for _ in range(2_000)],
        "percent": [f"{dice.below(100)}.{dice.below(10)}%" for _ in range(1_000)],
        "date": [long_date(day) for day in days],
        "person": [person(dice) for _ in range(2_000)],
        "drug": [_drug(dice) for _ in range(500)],
        "month": MONTHS,
        "year": [str(year) for year in range(2001, 2025)],
        "oldyear": [str(year) for year in range(1985, 2003)],
        "lateryear": [str(year) for year in range(2004, 2020)],
        "age": [str(age) for age in range(31, 75)],
        "n1": [str(number) for number in range(2, 10)],
        "n2": [str(number) for number in range(10, 100)],
        "n3": [str(number) for number in range(100, 1000)],
        "n4": [f"{dice.below(10_000):04d}" for _ in range(1_000)],
        "dashed": [f"001-{dice.below(99_999):05d}" for _ in range(500)],
        "ein": [f"{dice.between(10, 99)}-{dice.below(9_999_999):07d}" for _ in range(500)],
        "section": [f"{a}.{b:02d}{c}" for a in range(2, 11) for b in range(1, 20) for c in _SUBS],
        "exhibit": [
            f"Exhibit {a}.{b}" for a in (3, 4, 10, 21, 23, 31, 32, 99) for b in range(1, 20)
        ],
        "note": [str(number) for number in range(1, 24)],
        "item": ["1A", "2.02", "5.02", "7.01", "7A", "8.01", "9B"],
        "state": ["Delaware", "Nevada", "Maryland", "New York", "Texas", "Ohio", "Virginia"],
    }
    return {**{kind: names for kind, names in parts().items() if isinstance(names, list)}, **made}


_SUBS = ("", "(a)", "(b)", "(c)(ii)")
