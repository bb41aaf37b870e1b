"""Shifts: sentences taught at other places of the input, so that every position learns from all.

Few sentences are long, so few teach a student to point at position 60: it points beside it. A
sentence that begins at position 37 instead of 0, with its answer's pointers moved along, is as good
a lesson, and costs nothing. It ends where another of the lessons might: positions that hardly any
lesson reaches are not worth the others' time.
"""

import zlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from raydistill.errors import SetupError
from raydistill.tokenizer import Tokenizer


class Shift:
    """Moves `share` (0..1) of a batch's rows to places of their own, by learned positions.

    `lengths` are those of all lessons' inputs in tokens. Where a row goes depends on the batch's
    rows alone, so that a resumed run repeats it.
    """

    def __init__(
        self, model: nn.Module, tokenizer: Tokenizer, lengths: NDArray[np.int64], share: float
    ) -> None:
        inner: Any = model
        places: Any = getattr(inner.get_encoder(), "embed_positions", None)
        first = tokenizer.raw.token_to_id("<p0>")
        if not hasattr(places, "offset") or first is None:
            raise SetupError(
                f"train.fit.shift={share:g} for a student without learned positions to point at",
                expected="a seq2seq student from scratch, or BART, with target=compact",
                todo="set fit.shift=0",
            )
        self.share, self.first, self.lengths = share, first, lengths
        room = places.weight.shape[0] - places.offset
        self.count = next(
            at for at in range(room + 1) if tokenizer.raw.token_to_id(f"<p{at}>") != first + at
        )
        self.by: torch.Tensor | None = None
        places.register_forward_hook(self._placed)

    def __call__(
        self, rows: Any, inputs: torch.Tensor, labels: torch.Tensor, pad: int
    ) -> torch.Tensor:
        """The labels (rows, tokens) of rows that stand elsewhere at the next forward pass."""
        own = (inputs != pad).sum(1).numpy(force=True)
        dice = np.random.default_rng(zlib.crc32(np.ascontiguousarray(rows).tobytes()))
        others = np.minimum(dice.choice(self.lengths, len(rows)), self.count)
        room = np.maximum(0, others - own)
        chosen = dice.random(len(rows)) < self.share
        by = np.where(chosen, dice.integers(0, room + 1), 0)
        self.by = torch.from_numpy(by).to(labels.device)[:, None]
        pointers = (labels >= self.first) & (labels < self.first + self.count)
        return torch.where(pointers, labels + self.by, labels)

    def _placed(self, module: Any, _: Any, output: torch.Tensor) -> torch.Tensor:
        """The embeddings of the positions at which the rows stand; once for each call."""
        if self.by is None:
            return output
        width = output.shape[1]
        at = torch.arange(width, device=output.device)[None] + self.by
        self.by = None
        at = at.clamp(max=module.weight.shape[0] - module.offset - 1)  # padding alone goes beyond
        return nn.functional.embedding(at + module.offset, module.weight)
