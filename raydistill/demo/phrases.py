"""The phrasings of the demo world, read from `demo/*.yaml` into frozen objects.

Notation of a phrasing: `{S}` is a company, `{S:person}` a slot of a kind, `{S=the FDA}` fixed
words, `{its}` agrees with S, and `[took/take/taken]` is a verb as past, base and participle (the
past where left out); `[=...]` is a second verb under the first one's auxiliary. Slot S is the
subject of the event and O its object; either may be missing. A leading `(+)`, `(-)` or `(=)` sets
the sentiment.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

import yaml

TIMINGS = ("definitive", "anticipated", "historical")
SENTIMENTS = {"(+)": "positive", "(-)": "negative", "(=)": "neutral"}
EVENT_FILES = ("people", "debt", "equity", "deals", "operations", "legal")

_PIECE = re.compile(r"\{([^}]*)\}|\[(=?)([^\]]*)\]")
_PLURAL = re.compile(r"\{\w+[^}]*\} and \{|the lenders |\{S=the (stockholders|directors)\} ")
_ACTOR = re.compile(r"\{(S|a)(:person|=the [A-Z][^}]*)?\}(,[^\[]*,)? \[")


@dataclass(frozen=True)
class Slot:
    """A place for a value: drawn by kind, or fixed words. `words` wins over `kind`."""

    name: str
    kind: str
    words: str | None


@dataclass(frozen=True)
class Verb:
    """A verb in its three forms; `bare` verbs take no auxiliary of their own."""

    past: str
    base: str
    participle: str
    bare: bool


@dataclass(frozen=True)
class Says:
    """One event a phrasing states: the slots of its subject, object and size."""

    event_type: str
    subject: str | None
    object: str | None
    sizes: tuple[str, ...]
    sentiment: str


@dataclass(frozen=True)
class Phrasing:
    """One way to state one to three events, as pieces of text, slots and verbs."""

    id: str
    seen: bool
    pieces: tuple[str | Slot | Verb, ...]
    says: tuple[Says, ...]
    timings: tuple[str, ...]
    first_person: bool  # "we" can stand for S: it opens the clause and rules the verb
    full_name: bool  # S may end in "Inc.": a verb follows, never the end of the sentence
    plural: bool
    actor: bool  # the verb's subject can expect or plan


@dataclass(frozen=True)
class EventType:
    """What the guideline says of one event type, whatever the sentence."""

    name: str
    magnitude: str
    sentiment: str
    routine: bool


@dataclass(frozen=True)
class Choices:
    """Phrasings that any company may use (`seen`), and those only held-out companies use."""

    seen: tuple[Phrasing, ...]
    unseen: tuple[Phrasing, ...]


@dataclass(frozen=True)
class Phrases:
    """All event types, the phrasings of each, and those that state several events at once."""

    types: Mapping[str, EventType]
    by_type: Mapping[str, Choices]
    compounds: Choices


def read(name: str) -> dict[str, Any]:
    """The YAML resource `demo/<name>.yaml`."""
    text = (files("raydistill") / "demo" / f"{name}.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def pieces(text: str) -> tuple[str | Slot | Verb, ...]:
    """The text cut into plain strings, slots and verbs."""
    out: list[str | Slot | Verb] = []
    at = 0
    for found in _PIECE.finditer(text):
        if found.start() > at:
            out.append(text[at : found.start()])
        at = found.end()
        out.append(_slot(found[1]) if found[1] is not None else _verb(found[3], bool(found[2])))
    return (*out, text[at:]) if at < len(text) else tuple(out)


def _slot(inside: str) -> Slot:
    if "=" in inside:
        name, words = inside.split("=", 1)
        return Slot(name, "", words)
    name, _, kind = inside.partition(":")
    return Slot(name, kind or ("company" if name == "S" else name), None)


def _verb(inside: str, bare: bool) -> Verb:
    past, base, *participle = inside.split("/")
    return Verb(past, base, participle[0] if participle else past, bare)


def _phrasing(
    id: str, text: str, seen: bool, says: tuple[Says, ...], timings: Sequence[str]
) -> Phrasing:
    cut = pieces(text)
    verb = next(piece for piece in cut if isinstance(piece, Verb))
    return Phrasing(
        id=id,
        seen=seen,
        pieces=cut,
        says=says,
        timings=tuple(timings),
        first_person=text.startswith("{S} ["),
        full_name="{S} [" in text,
        plural=bool(_PLURAL.match(text)) or verb.past == "were",
        actor=bool(_ACTOR.match(text)) and verb.past not in ("was", "were"),
    )


def _simple(type: EventType, spec: Mapping[str, Any], key: str) -> tuple[Phrasing, ...]:
    out: list[Phrasing] = []
    for number, line in enumerate(spec[key]):
        mark, text = (line[:3], line[4:]) if line[:3] in SENTIMENTS else ("", line)
        slots = [piece for piece in pieces(text) if isinstance(piece, Slot)]
        names = {slot.name for slot in slots}
        says = Says(
            event_type=type.name,
            subject="S" if "S" in names else None,
            object="O" if "O" in names else None,
            sizes=tuple(slot.name for slot in slots if slot.kind in ("amount", "post")),
            sentiment=SENTIMENTS.get(mark, type.sentiment),
        )
        id = f"{type.name}.{key}{number}"
        out.append(_phrasing(id, text, key == "seen", (says,), spec.get("timing", TIMINGS)))
    return tuple(out)


def _compound(types: Mapping[str, EventType], spec: Any, key: str) -> tuple[Phrasing, ...]:
    out: list[Phrasing] = []
    for number, entry in enumerate(spec[key]):
        says = tuple(
            Says(name, subject, object, tuple(sizes), types[name].sentiment)
            for name, subject, object, *sizes in entry["events"]
        )
        id = f"compound.{key}{number}"
        timings = entry.get("timing", TIMINGS)
        out.append(_phrasing(id, entry["text"], key == "seen", says, timings))
    return tuple(out)


@lru_cache
def phrases() -> Phrases:
    """Every phrasing of the demo world. Read once."""
    types: dict[str, EventType] = {}
    by_type: dict[str, Choices] = {}
    for name in EVENT_FILES:
        for event_type, spec in read(f"events/{name}").items():
            type = EventType(
                event_type, spec["magnitude"], spec["sentiment"], spec.get("routine", False)
            )
            types[event_type] = type
            by_type[event_type] = Choices(
                _simple(type, spec, "seen"), _simple(type, spec, "unseen")
            )
    compounds = read("compounds")
    return Phrases(
        types,
        by_type,
        Choices(_compound(types, compounds, "seen"), _compound(types, compounds, "unseen")),
    )
