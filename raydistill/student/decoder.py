"""Decoders: sentence and answer in one sequence, and a loss on the answer alone.

Rows stand in one of two layouts. Padded: prompts end, and answers begin, at one column, so that the
vocabulary is scored where answers are and nowhere else. Packed: several rows follow each other in
one line; attention and positions are kept apart, so that a row sees nothing of its neighbours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from raydistill.frame import Frame
from raydistill.student.examples import GRID, Examples
from raydistill.tokenizer import Tokenizer

_IGNORED = -100


@dataclass(frozen=True, slots=True)
class Layout:
    """Arrays (lines, columns) of token ids, labels (-100 where none), positions and segments.

    Segments number the rows of a line from 1; 0 is padding.
    """

    ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    positions: NDArray[np.int64]
    segments: NDArray[np.int64]

    @classmethod
    def empty(cls, lines: int, columns: int, pad: int) -> "Layout":
        """A layout of padding."""
        zeros = [np.zeros((lines, columns), np.int64) for _ in range(2)]
        ids, labels = (np.full((lines, columns), value, np.int64) for value in (pad, _IGNORED))
        return cls(ids, labels, *zeros)

    def place(self, line: int, at: int, segment: int, prompt: Any, answer: Any) -> None:
        """Writes a row at a column of a line."""
        middle, end = at + len(prompt), at + len(prompt) + len(answer)
        self.ids[line, at:middle], self.ids[line, middle:end] = prompt, answer
        self.labels[line, middle:end] = answer
        self.positions[line, at:end] = np.arange(end - at)
        self.segments[line, at:end] = segment


def padded_layout(examples: Examples, rows: Sequence[int], pad: int) -> Layout:
    """A row a line; all answers begin at the same column."""
    prompts = [examples.inputs[row] for row in rows]
    answers = [examples.labels[row] for row in rows]
    start, after = (-(-max(map(len, some)) // GRID) * GRID for some in (prompts, answers))
    out = Layout.empty(len(rows), start + after, pad)
    for line, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        out.place(line, start - len(prompt), 1, prompt, answer)
    return out


def packed_layout(examples: Examples, rows: Sequence[int], pad: int, columns: int) -> Layout:
    """Rows one after the other in lines of at least `columns`, the longest row first."""
    costs = examples.costs
    order = sorted(rows, key=lambda row: -int(costs[row]))
    columns = max(columns, int(costs[order[0]]))
    lines: list[list[int]] = []
    room: list[int] = []
    for row in order:
        cost = int(costs[row])
        line = next((at for at, left in enumerate(room) if left >= cost), None)
        if line is None:
            line = len(lines)
            lines.append([])
            room.append(columns)
        lines[line].append(row)
        room[line] -= cost
    out = Layout.empty(len(lines), columns - min(room), pad)
    for line, members in enumerate(lines):
        at = 0
        for segment, row in enumerate(members, 1):
            out.place(line, at, segment, examples.inputs[row], examples.labels[row])
            at += int(costs[row])
    return out


class DecoderLearner:
    """Teaches a causal model to go on from a framed sentence with the tokens of its answer.

    `pack` is the columns of a packed line, 0 for a row a line.
    """

    def __init__(
        self,
        model: nn.Module,
        examples: Examples,
        tokenizer: Tokenizer,
        *,
        frame: Frame,
        pack: int = 0,
    ) -> None:
        self.model, self.examples, self.pack = model, examples, pack
        self.pad = tokenizer.id(frame.pad)

    def loss(self, model: nn.Module, rows: Any, device: torch.device) -> tuple[torch.Tensor, int]:
        some = [int(row) for row in rows]
        if self.pack:
            layout = packed_layout(self.examples, some, self.pad, self.pack)
        else:
            layout = padded_layout(self.examples, some, self.pad)
        # The token before each label is where it is foretold.
        columns = np.flatnonzero((layout.labels != _IGNORED).any(0)) - 1
        keep = torch.from_numpy(columns).to(device)
        logits = model(
            input_ids=torch.from_numpy(layout.ids).to(device),
            attention_mask=self._mask(layout, device),
            position_ids=torch.from_numpy(layout.positions).to(device),
            logits_to_keep=keep,
            use_cache=False,
        ).logits
        labels = torch.from_numpy(layout.labels[:, columns + 1]).to(device)
        loss = nn.functional.cross_entropy(
            logits.float().flatten(0, 1), labels.flatten(), ignore_index=_IGNORED
        )
        return loss, int(self.examples.costs[some].sum())

    def _mask(self, layout: Layout, device: torch.device) -> torch.Tensor:
        """Which tokens are seen: 2-D where a line is one row, else apart by segment."""
        segments = torch.from_numpy(layout.segments).to(device)
        if not self.pack:
            return (segments > 0).long()
        columns = segments.shape[1]
        same = segments[:, :, None] == segments[:, None, :]
        past = torch.ones(columns, columns, dtype=torch.bool, device=device).tril()
        hidden = torch.zeros(same.shape, device=device)
        hidden.masked_fill_(~(same & past), torch.finfo(torch.float32).min)
        return hidden.unsqueeze(1)
