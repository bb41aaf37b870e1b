"""Frame: how a sentence is presented to a student, and how its answer begins and ends.

Training, the master and the quantised engine read the same frame from a student's card, so that a
sentence stands between the same tokens everywhere.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from raydistill.errors import SetupError
from raydistill.tokenizer import BOS, EOS, PAD

ENCODER, SEQ2SEQ, DECODER, POINTER = "encoder", "seq2seq", "decoder", "pointer"
CARD = "student.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """Token strings around a sentence; `end` closes an answer, `pad` fills a batch.

    `positions` is how many input tokens an answer can point at; None means as many as the student
    reads. A student without absolute positions points at nothing and spells its spans.
    """

    kind: str
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    end: str = EOS
    pad: str = PAD
    positions: int | None = None

    @property
    def width(self) -> int:
        """Tokens that the frame adds to a sentence."""
        return len(self.before) + len(self.after)

    def tokens(self, sentence: Sequence[str]) -> list[str]:
        """The framed token strings of a sentence."""
        return [*self.before, *sentence, *self.after]

    def spec(self) -> dict[str, Any]:
        """The frame as JSON; `frame(spec)` gives it back."""
        values = asdict(self)
        return values | {"before": list(self.before), "after": list(self.after)}


def frame(spec: Mapping[str, Any]) -> Frame:
    """The frame of a `spec()`."""
    values: dict[str, Any] = dict(spec)
    values |= {"before": tuple(values["before"]), "after": tuple(values["after"])}
    return Frame(**values)


def scratch(kind: str) -> Frame:
    """The frame of a student from scratch: an end for seq2seq, for a decoder `<s>` as "answer"."""
    after = {ENCODER: (), POINTER: (), SEQ2SEQ: (EOS,), DECODER: (BOS,)}[kind]
    return Frame(kind=kind, after=after, positions=0 if kind == DECODER else None)


def of_card(kind: str, shape: Mapping[str, Any]) -> Frame:
    """The frame that a student's card states, or the one that its kind has from scratch."""
    return frame(shape["frame"]) if shape.get("frame") else scratch(kind)


def of_folder(folder: Path) -> Frame:
    """The frame of the student in a folder of a master or a release."""
    card = card_of(folder)
    return of_card(card["kind"], card["shape"])


def card_of(folder: Path) -> dict[str, Any]:
    """What the student in a folder of a master or a release says of itself."""
    file = folder / CARD
    if not file.is_file():
        raise SetupError(f"{file} is missing", expected="a published student", todo="run publish")
    return json.loads(file.read_text())
