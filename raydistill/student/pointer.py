"""Pointer students: an encoder whose heads point at words and choose values, all in one pass.

Each place for a record reads the sentence by an attention of its own and, from what it has read,
gives a class for every field and the pointers of those that stand in the sentence (as Vinyals et
al. 2015 point). There is no decoder: an answer costs what reading its sentence costs.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import BertModel

from raydistill.choosing import answers
from raydistill.frame import Frame
from raydistill.slots import IGNORE, Offset, Slots
from raydistill.student.examples import Examples, Ragged, answer_of
from raydistill.student.shape import Shape, begin_as_waves, encoder, plain_attention
from raydistill.target import Target
from raydistill.task import Task
from raydistill.tokenizer import Encoded, Tokenizer

_FAR = -1e4  # the logit of what is not there


class Pointer(nn.Module):
    """An encoder and heads for `count` places with so many classes and points (`end`).

    The engine does the same sums in numpy.
    """

    def __init__(self, encoder: BertModel, count: int, end: Offset) -> None:
        super().__init__()
        plain_attention(encoder)
        self.encoder, self.count = encoder, count
        self.points = max(1, end.points)  # a task of choices alone has none
        pooler: Any = encoder.pooler
        pooler.requires_grad_(False)  # kept for the converter, used by nothing
        width: int = encoder.config.hidden_size
        self.head_slots = nn.Linear(width, count)
        self.mix = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.head_classes = nn.Linear(width, end.classes)
        self.queries = nn.Linear(width, self.points * width).requires_grad_(end.points > 0)

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


def untrained(
    shape: Shape, tokenizer: Tokenizer, places: Mapping[str, Slots], *, seed: int
) -> Pointer:
    """A pointer student from scratch, the same one for the same seed."""
    torch.manual_seed(seed)
    made = encoder(shape, tokenizer)
    begin_as_waves(made.embeddings.position_embeddings)
    return headed(made, places)


def headed(encoder: BertModel, places: Mapping[str, Slots]) -> Pointer:
    """An encoder with untrained heads for the places of every task."""
    slots = list(places.values())
    return Pointer(encoder, max(one.count for one in slots), slots[-1].end)


def loaded(folder: Path) -> Pointer:
    """The pointer student of a student folder."""
    weights = load_file(folder / "head.safetensors")
    count, classes = len(weights["head_slots.bias"]), len(weights["head_classes.bias"])
    points = len(weights["queries.bias"]) // len(weights["norm.bias"])
    model = Pointer(BertModel.from_pretrained(folder), count, Offset(classes, points))
    model.load_state_dict(weights, strict=False)
    return model


def pointing(
    rows: Any,
    task: Task,
    target: Target,
    tokenizer: Tokenizer,
    *,
    places: Mapping[str, Slots],
    max_input: int,
    frame: Frame,
) -> Examples:
    """Framed sentences, and the number of the task with the labels of its answers' places.

    Rows too long are dropped.
    """
    slots, number = places[task.name], list(places).index(task.name)
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
    numbered = Ragged.of([[number, *one] for one in labels])
    return Examples(Ragged.of(inputs), numbered, dropped, untaught=slots.untaught(labels))


class PointingLearner:
    """Teaches a pointer student the labels of each sentence's places."""

    def __init__(
        self,
        model: nn.Module,
        examples: Examples,
        tokenizer: Tokenizer,
        places: Mapping[str, Slots],
        frame: Frame,
    ) -> None:
        self.model, self.examples, self.places = model, examples, list(places.values())
        self.pad, self.first = tokenizer.id(frame.pad), len(frame.before)

    def loss(self, model: nn.Module, rows: Any, device: torch.device) -> tuple[torch.Tensor, int]:
        """Mean cross-entropy over what the rows' labels say, and the rows' tokens."""
        inputs = torch.from_numpy(self.examples.inputs.batch(rows, self.pad)).to(device)
        labels = [self.examples.labels[row].astype(np.int64) for row in rows]
        mask = inputs != self.pad
        classes, points = model(input_ids=inputs, attention_mask=mask.long())
        terms: list[torch.Tensor] = []
        for number, slots in enumerate(self.places):
            own = [at for at, one in enumerate(labels) if one[0] == number]
            if own:
                said = torch.from_numpy(np.stack([labels[at][1:] for at in own])).to(device)
                some = slice(None) if len(own) == len(rows) else own
                terms += self._terms(slots, classes[some], points[some], said)
        return torch.stack(terms).sum() / len(rows), int(mask.sum())

    def _terms(
        self, slots: Slots, classes: torch.Tensor, points: torch.Tensor, labels: torch.Tensor
    ) -> list[torch.Tensor]:
        """The summed cross-entropies of rows of one task."""
        said = labels.reshape(len(labels), slots.count, -1)
        classes, points = classes[:, : slots.count], points[:, : slots.count]
        first = slots.begin.classes
        terms = [_entropy(classes[..., first : first + 2], said[..., 0])]
        for at, head in enumerate(slots.heads):
            part = classes[..., head.start : head.start + len(head.tokens)]
            terms.append(_entropy(part, said[..., 1 + at]))
        if slots.end.points > slots.begin.points:
            places = said[..., 1 + len(slots.heads) :]
            places = torch.where(places == IGNORE, IGNORE, places + self.first)
            terms.append(_entropy(points[:, :, slots.begin.points : slots.end.points], places))
        return terms


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
            logits = classes.float().cpu().numpy(), points.float().cpu().numpy()
            inner = logits[1][..., len(self.before) :]
            said = answers(self.slots, logits[0], inner, [sources[at].source for at in some])
            for at, one in zip(some, said, strict=True):
                out[at] = one.tokens
        return out
