"""Sentences of the demo world: event clauses, clauses joined, and near-misses."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from raydistill.demo.names import Dice, pools, value
from raydistill.demo.phrases import Choices, Phrasing, Slot, Verb, phrases, read
from raydistill.demo.rules import Event, Scene, event, frames, when

_AUX = re.compile(r"<([a-z ]+)>")
_SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Sentence:
    """A sentence, which phrasing it is, and the events it states (none in a near-miss)."""

    text: str
    phrasing_id: str
    seen: bool
    events: tuple[Event, ...]


@lru_cache
def near_misses() -> dict[str, Any]:
    """Sentences with the words of events and no event, as in `demo/near.yaml`."""
    return read("near")


def clause(
    phrasing: Phrasing, dice: Dice, scene: Scene, voice: str, auxiliary: str, opens: bool
) -> tuple[str, dict[str, str]]:
    """The words of a phrasing and the values of its slots.

    `auxiliary` is empty for the plain past; `opens` says that the clause opens its sentence.
    """
    called = _called(phrasing, scene, voice)
    values = {"its": "our" if called == "we" else "its"}
    words: list[str] = []
    plural = phrasing.plural or called == "we"
    for piece in phrasing.pieces:
        if isinstance(piece, str):
            words.append(piece)
        elif isinstance(piece, Verb):
            words.append(_spoken(piece, auxiliary, plural))
        else:
            words.append(_filled(piece, values, called, dice, scene))
        if opens and len(words) == 1:
            words[0] = words[0][0].upper() + words[0][1:]
            if isinstance(piece, Slot):
                values[piece.name] = words[0]
    return "".join(words), values


def _spoken(verb: Verb, auxiliary: str, plural: bool) -> str:
    if not auxiliary:
        return "were" if plural and verb.past == "was" else verb.past
    perfect = auxiliary.split()[0] in ("had", "has", "have")
    form = verb.participle if perfect else verb.base
    return form if verb.bare else f"{auxiliary} {form}"


def _called(phrasing: Phrasing, scene: Scene, voice: str) -> str:
    if voice == "we" and phrasing.first_person:
        return "we"
    if voice == "name" and phrasing.full_name:
        return scene.company.name
    return scene.company.short if voice in ("name", "short") else "the Company"


def _filled(slot: Slot, values: dict[str, str], called: str, dice: Dice, scene: Scene) -> str:
    if slot.words is not None:
        values[slot.name] = slot.words
    elif slot.kind == "company":
        values[slot.name] = called
    elif slot.name not in values:
        drawn = value(slot.kind, dice, scene.company.held_out)
        while drawn in values.values():  # two people of a sentence are two people
            drawn = value(slot.kind, dice, scene.company.held_out)
        values[slot.name] = drawn
    return values[slot.name]


def _auxiliary(phrasing: Phrasing, dice: Dice, timing: str, dated: bool, plural: bool) -> str:
    if timing == "definitive":
        if dated or dice.roll() < 0.5:  # "has" does not go with a date
            return ""
        timing = "perfect"
    entries = [e for e in frames()["auxiliaries"][timing] if phrasing.actor or e[0] != "*"]
    singular, many = dice.pick(entries).lstrip("*").split(", ")
    return many if plural else singular


def _timing(phrasing: Phrasing, dice: Dice) -> str:
    roll = dice.roll()
    timing = "definitive" if roll < 0.7 else "anticipated" if roll < 0.86 else "historical"
    return timing if timing in phrasing.timings else phrasing.timings[0]


def _spoken_clause(
    phrasing: Phrasing, dice: Dice, scene: Scene, voice: str, timing: str, dated: bool, opens: bool
) -> tuple[str, dict[str, str]]:
    plural = phrasing.plural or (voice == "we" and phrasing.first_person)
    auxiliary = _auxiliary(phrasing, dice, timing, dated, plural)
    return clause(phrasing, dice, scene, voice, auxiliary, opens)


def _voice(dice: Dice) -> str:
    return dice.pick(("company", "company", "we", "short", "name"))


def _extra(dice: Dice, choices: Sequence[str]) -> str:
    return _SLOT.sub(lambda found: dice.pick(pools()[found[1]]), dice.pick(choices))


def single(phrasing: Phrasing, dice: Dice, scene: Scene) -> Sentence:
    """A sentence of one clause, dated before or after it, with or without surroundings."""
    timing = _timing(phrasing, dice)
    dated = when(dice, scene, timing)
    dated_first = bool(dated.lead) and dice.roll() < 0.55
    lead = _extra(dice, frames()["leads"][timing]) if dice.roll() < 0.3 else ""
    tail = _extra(dice, frames()["tails"][timing]) if not lead and dice.roll() < 0.5 else ""
    opening = lead + (dated.lead if dated_first else "")
    text, values = _spoken_clause(
        phrasing, dice, scene, _voice(dice), timing, bool(dated.lead), not opening
    )
    sentence = opening + text + ("" if dated_first else dated.trail) + tail + "."
    events = tuple(event(says, values, timing, dated) for says in phrasing.says)
    return Sentence(sentence[0].upper() + sentence[1:], phrasing.id, phrasing.seen, events)


def joined(chosen: Sequence[Phrasing], dice: Dice, scene: Scene, side: str) -> Sentence:
    """A sentence of several clauses, each with its own date behind it."""
    joins: Sequence[str] = frames()["joins"][side]
    first = dice.below(len(joins))
    voice = _voice(dice)
    sentence, events = "", list[Event]()
    for number, phrasing in enumerate(chosen):
        timing = _timing(phrasing, dice)
        dated = when(dice, scene, timing)
        text, values = _spoken_clause(
            phrasing, dice, scene, voice, timing, bool(dated.lead), number == 0
        )
        events += [event(says, values, timing, dated) for says in phrasing.says]
        text += dated.trail
        sentence = joins[(first + number) % len(joins)].format(sentence, text) if number else text
    id = f"join.{side}{first}:{'+'.join(phrasing.id for phrasing in chosen)}"
    return Sentence(sentence + ".", id, side == "seen", tuple(events))


def _side(dice: Dice, scene: Scene) -> str:
    return "unseen" if scene.company.held_out and dice.roll() < 0.5 else "seen"


def event_sentence(dice: Dice, scene: Scene) -> Sentence:
    """A sentence that states one to three events.

    As a real teacher reads real filings: 13 % of such sentences state two events, 1 % three.
    """
    side = _side(dice, scene)
    roll = dice.roll()
    if roll < 0.05:
        return single(dice.pick(_of(phrases().compounds, side)), dice, scene)
    types = tuple(phrases().by_type.values())
    if roll < 0.92:
        return single(dice.pick(_of(dice.pick(types), side)), dice, scene)
    count = 2 if roll < 0.99 else 3
    chosen = [dice.pick(_of(dice.pick(types), side)) for _ in range(count)]
    return joined(chosen, dice, scene, side)


def _of(choices: Choices, side: str) -> tuple[Phrasing, ...]:
    return choices.seen if side == "seen" else choices.unseen


def near_miss(dice: Dice, scene: Scene) -> Sentence:
    """A sentence with the words of events that states none."""
    side = _side(dice, scene)
    if dice.roll() < 0.5:
        return _hypothetical(dice, scene, side)
    group = dice.pick(tuple(near_misses()["sentences"]))
    number = dice.below(len(near_misses()["sentences"][group][side]))
    text: str = near_misses()["sentences"][group][side][number]
    own = {"name": scene.company.name, "Company": dice.pick(("The Company", scene.company.short))}
    text = _SLOT.sub(lambda found: own.get(found[1]) or dice.pick(pools()[found[1]]), text)
    dot = "" if group == "exhibit" else "."
    return Sentence(text + dot, f"near.{group}.{side}{number}", side == "seen", ())


def _hypothetical(dice: Dice, scene: Scene, side: str) -> Sentence:
    phrasing = dice.pick(_of(dice.pick(tuple(phrases().by_type.values())), side))
    number = dice.below(len(near_misses()["frames"][side]))
    frame = _SLOT.sub(
        lambda found: dice.pick(pools()[found[1]]), near_misses()["frames"][side][number]
    )
    found = _AUX.search(frame)
    assert found is not None  # every frame has its place for a clause
    text, _ = clause(phrasing, dice, scene, _voice(dice), found[1], opens=False)
    text = f"{frame[: found.start()]}{text}{frame[found.end() :]}."
    return Sentence(text, f"near.frame.{side}{number}:{phrasing.id}", side == "seen", ())
