"""What a careful teacher makes of a clause of the demo world: its rules for the ten fields.

All ten are a function of the sentence alone, as by the guideline of a real teacher: sizes decide
the magnitude, tense the timing, and the stated day the date and how sure it is.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from typing import Any

from raydistill.demo.names import MONTHS, ORDINALS, Company, Dice, dollars, long_date, parts
from raydistill.demo.phrases import Says, phrases, read

Event = dict[str, Any]

CHOICES = {
    "magnitude_class": ("minor", "moderate", "major"),
    "timing": ("definitive", "anticipated", "historical"),
    "sentiment": ("positive", "neutral", "negative"),
    "materiality": ("material", "immaterial"),
}


@dataclass(frozen=True)
class Scene:
    """Whose filing speaks, and when it was filed."""

    company: Company
    filed: date


@dataclass(frozen=True)
class When:
    """How a clause dates its event; `lead` and `trail` are empty where it does not."""

    lead: str
    trail: str
    event_date: str | None
    date_confidence: int


@lru_cache
def frames() -> dict[str, Any]:
    """What stands around event clauses, as in `demo/frames.yaml`."""
    return read("frames")


def magnitude(says: Says, values: dict[str, str]) -> str:
    """Major types stay major; else the amount or post decides, else the type."""
    default = phrases().types[says.event_type].magnitude
    if default == "major":
        return default
    for name in says.sizes:
        text = values[name]
        if not text.startswith("$"):
            return "major" if text in parts()["top_posts"] else default
        size = dollars(text)
        return "major" if size >= 1e8 else "minor" if size < 5e6 else "moderate"
    return default


def materiality(event_type: str, size: str) -> str:
    """Minor events are immaterial, and so are routine ones short of major."""
    routine = phrases().types[event_type].routine and size != "major"
    return "immaterial" if size == "minor" or routine else "material"


def confidence(timing: str, subject: str | None, object: str | None, date_confidence: int) -> int:
    """How explicit the sentence is, by its weakest part."""
    weakest = {"definitive": 10, "anticipated": 9, "historical": 8}[timing]
    if subject is None or object is None:
        weakest = min(weakest, 7)
    return min(weakest, 6) if date_confidence == 2 else weakest


def event(says: Says, values: dict[str, str], timing: str, when: When) -> Event:
    """The ten fields, in the guideline's order."""
    subject = values[says.subject] if says.subject else None
    object = values[says.object] if says.object else None
    size = magnitude(says, values)
    return {
        "event_type": says.event_type,
        "subject": subject,
        "object": object,
        "magnitude_class": size,
        "timing": timing,
        "sentiment": says.sentiment,
        "materiality": materiality(says.event_type, size),
        "confidence": confidence(timing, subject, object, when.date_confidence),
        "date_confidence": when.date_confidence,
        "event_date": when.event_date,
    }


def when(dice: Dice, scene: Scene, timing: str) -> When:
    """A date in one of its many forms, of a day that suits the timing; or none."""
    if timing == "definitive":
        day = scene.filed - timedelta(days=dice.below(90))
    elif timing == "anticipated":
        day = scene.filed + timedelta(days=dice.between(5, 300))
    else:
        day = scene.filed - timedelta(days=dice.between(1_500, 4_500))
    kind = dice.roll()
    if kind < 0.56:
        return _full(dice, day)
    if kind < 0.68:
        month = f"{MONTHS[day.month - 1]} {day.year}"
        return _partial(dice, month, f"{day.year}-{day.month:02d}", 6)
    if kind < 0.74:
        fiscal = dice.pick(("", "fiscal "))
        quarter = f"the {ORDINALS[(day.month - 1) // 3]} quarter of {fiscal}{day.year}"
        return _partial(dice, quarter, str(day.year), 6)
    if kind < 0.80:
        return _partial(dice, f"{dice.pick(('', 'fiscal '))}{day.year}", str(day.year), 5)
    if kind < 0.87:
        words: str = dice.pick(frames()["relative"][timing])
        return When(f"{words}, ", f" {words}", None, 2)
    return When("", "", None, 0)


def _full(dice: Dice, day: date) -> When:
    style = dice.roll()
    if style < 0.6:
        text = long_date(day)
    elif style < 0.74:
        text = f"{day.day} {MONTHS[day.month - 1]} {day.year}"
    elif style < 0.86:
        text = f"{day.month:02d}/{day.day:02d}/{day.year}"
    else:
        text = day.isoformat()
    word = dice.pick(("on", "on", "on", "effective"))
    return When(f"{word} {text}, ", f" on {text}", day.isoformat(), 10)


def _partial(dice: Dice, text: str, iso: str, sure: int) -> When:
    word = dice.pick(("in", "in", "during"))
    return When(f"{word} {text}, ", f" {word} {text}", iso, sure)
