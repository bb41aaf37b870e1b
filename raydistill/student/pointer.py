"""Pointer students: an encoder whose heads point at words and choose values, all in one pass.

Each place for a record reads the sentence by an attention of its own and, from what it has read,
gives a class for every field and the pointers of those that stand in the sentence (as Vinyals et
al. 2015 point). There is no decoder: an answer costs what reading its sentence costs.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import BertModel

from raydistill.frame import Frame
from raydistill.slots import IGNORE, Slots
from raydistill.student.examples import Examples, Ragged, answer_of
from raydistill.student.shape import Shape, begin_as_waves, encoder, plain_attention
from raydistill.target import Target
from raydistill.task import Task
from raydistill.tokenizer import Encoded, Tokenizer

_FAR = -1e4  # the logit of what is not there


class Pointer(nn.Module):
    """An encoder and the heads of `slots`; the engine does the same sums in numpy."""

    def __init__(self, encoder: BertModel, slots: Slots) -> None:
        super().__init__()
        plain_attention(encoder)
        self.encoder, self.count, self.points = encoder, slots.count, slots.points
        pooler: Any = encoder.pooler
        pooler.requires_grad_(False)  # kept for the converter, used by nothing
        width: int = encoder.config.hidden_size
        self.head_slots = nn.Linear(width, slots.count)
        self.mix = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.head_classes = nn.Linear(width, slots.classes)
        self.queries = nn.Linear(width, slots.points * width)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of classes (rows, places, classes) and points (rows, places, points, tokens)."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        missing = attention_mask == 0
        rows, tokens, width = hidden.shape
        look = self.head_slots(hidden).float().masked_fill(missing[..., None], _FAR).softmax(1)
        read = look.mT.to(hidden.dtype) @ hidden
        read = self.norm(read + nn.functional.gelu(self.mix(read), approximate="tanh"))
        asked = self.queries(read).reshape(rows, self.count * self.points, width)
        points = (asked @ hidden.mT).float() / width**0.5
        points = points.masked_fill(missing[:, None], _FAR)
        points = points.reshape(rows, self.count, self.points, tokens)
        return self.head_classes(read).float(), points


def untrained(shape: Shape, tokenizer: Tokenizer, slots: Slots, *, seed: int) -> Pointer:
    """A pointer student from scratch, the same one for the same seed."""
    torch.manual_seed(seed)
    made = encoder(shape, tokenizer)
    begin_as_waves(made.embeddings.position_embeddings)
    return Pointer(made, slots)


def pointing(
    rows: Any,
    task: Task,
    target: Target,
    slots: Slots,
    tokenizer: Tokenizer,
    *,
    max_input: int,
    frame: Frame,
) -> Examples:
    """Framed sentences and the labels of their answers' places. Rows too long are dropped."""
    before, after = tokenizer.ids(frame.before), tokenizer.ids(frame.after)
    inputs: list[list[int]] = []
    labels: list[list[int]] = []
    dropped = 0
    for batch in rows.select(["text", "answer"]).to_batches(max_chunksize=4096):
        encoded = tokenizer.encode(batch.column("text").to_pylist())
        for one, answer in zip(encoded, batch.column("answer").to_pylist(), strict=True):
            if len(one.ids) + frame.width > max_input:
                dropped += 1
                continue
            said = answer_of(task, answer, one.source.text)
            inputs.append([*before, *one.ids, *after])
            labels.append(slots.labels(target.encode(said, one.source)))
    return Examples(Ragged.of(inputs), Ragged.of(labels), dropped)


class PointingLearner:
    """Teaches a pointer student the labels of each sentence's places."""

    def __init__(
        self, model: nn.Module, examples: Examples, tokenizer: Tokenizer, slots: Slots, frame: Frame
    ) -> None:
        self.model, self.examples, self.slots = model, examples, slots
        self.pad, self.first = tokenizer.id(frame.pad), len(frame.before)

    def loss(self, model: nn.Module, rows: Any, device: torch.device) -> tuple[torch.Tensor, int]:
        """Mean cross-entropy over what the rows' labels say, and the rows' tokens."""
        inputs = torch.from_numpy(self.examples.inputs.batch(rows, self.pad)).to(device)
        labels = np.stack([self.examples.labels[row] for row in rows]).astype(np.int64)
        said = torch.from_numpy(labels).to(device).reshape(len(rows), self.slots.count, -1)
        mask = inputs != self.pad
        classes, points = model(input_ids=inputs, attention_mask=mask.long())
        terms = [_entropy(classes[..., :2], said[..., 0])]
        for at, head in enumerate(self.slots.heads):
            part = classes[..., head.start : head.start + len(head.tokens)]
            terms.append(_entropy(part, said[..., 1 + at]))
        places = said[..., 1 + len(self.slots.heads) :]
        places = torch.where(places == IGNORE, IGNORE, places + self.first)
        terms.append(_entropy(points, places))
        return torch.stack(terms).sum() / len(rows), int(mask.sum())


def _entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The summed cross-entropy of logits (..., classes) and labels (...)."""
    return nn.functional.cross_entropy(
        logits.reshape(-1, logits.shape[-1]),
        labels.reshape(-1),
        ignore_index=IGNORE,
        reduction="sum",
    )


class Pointed:
    """A pointer student in memory: sentences to output tokens."""

    def __init__(
        self, model: nn.Module, tokenizer: Tokenizer, frame: Frame, slots: Slots, max_input: int
    ) -> None:
        self.model, self.slots, self.limit = model, slots, max_input - frame.width
        self.pad = tokenizer.id(frame.pad)
        self.before, self.after = tokenizer.ids(frame.before), tokenizer.ids(frame.after)

    def tokens(self, sources: Sequence[Encoded], *, batch: int = 64) -> list[list[str]]:
        """The output tokens of each sentence, in order."""
        out: list[list[str]] = [[] for _ in sources]
        order = sorted(range(len(sources)), key=lambda at: -len(sources[at].ids))
        device = next(self.model.parameters()).device
        for start in range(0, len(order), batch):
            some = order[start : start + batch]
            rows = [[*self.before, *sources[at].ids[: self.limit], *self.after] for at in some]
            ids = torch.from_numpy(
                Ragged.of(rows).batch(np.arange(len(rows), dtype=np.int32), self.pad)
            ).to(device)
            with torch.inference_mode():
                classes, points = self.model(input_ids=ids, attention_mask=(ids != self.pad).long())
            said = zip(
                some, classes.float().cpu().numpy(), points.float().cpu().numpy(), strict=True
            )
            for at, chosen, pointed in said:
                inner = pointed[..., len(self.before) :]
                out[at] = self.slots.answer(chosen, inner, sources[at].source).tokens
        return out
