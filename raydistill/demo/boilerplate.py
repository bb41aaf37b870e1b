"""The sentences of a filing that state nothing: covers, tables, policies, signatures.

They are most of a filing, so they are made fast: templates are compiled once to a format string
and the pools its places draw from.
"""

import re
from collections.abc import Sequence

from raydistill.demo.names import Dice, pools
from raydistill.demo.phrases import read

_PLACE = re.compile(r"\{(\w+)\}")

Template = tuple[str, tuple[Sequence[str] | None, ...]]
"""A format string, and for each place its pool, or None for the company's name."""


def template(text: str) -> Template:
    """The compiled form of `"Net sales were {money}."`."""
    kinds = _PLACE.findall(text)
    format = _PLACE.sub("%s", text.replace("%", "%%"))
    return format, tuple(None if kind == "name" else pools()[kind] for kind in kinds)


class Boilerplate:
    """Makes the plain sentences of filings."""

    def __init__(self) -> None:
        sections = {
            name: [template(text) for text in texts] for name, texts in read("boilerplate").items()
        }
        self.cover = sections.pop("cover")
        self.signature = sections.pop("signature")
        self.sections = tuple(sections.values())

    def form(self, dice: Dice) -> str:
        return dice.pick(pools()["form"])

    def filing(self, dice: Dice, name: str, count: int) -> list[str]:
        """`count` sentences: a cover, runs of sections, a signature block."""
        roll = dice.roll
        cover = self.cover if count >= 40 else ()
        signature = self.signature if count >= 40 else ()
        chosen = list(cover)
        while len(chosen) < count - len(signature):
            section = dice.pick(self.sections)
            start = dice.below(len(section))
            chosen += section[start : start + dice.between(3, 9)]
        del chosen[count - len(signature) :]
        chosen += signature
        return [
            format
            % tuple([name if pool is None else pool[int(roll() * len(pool))] for pool in places])
            for format, places in chosen
        ]
