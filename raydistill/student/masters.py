"""Masters: students in full precision, as they were trained, and what they answer.

Slow and exact: quantised students are measured against them, and training is validated by them.
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, BertModel

from raydistill.answer import Answer
from raydistill.errors import AnswerError
from raydistill.frame import DECODER, POINTER, Frame
from raydistill.slots import Offset, Slots, slots_of
from raydistill.student.examples import padded
from raydistill.student.folder import Card, card, shape
from raydistill.student.pointer import Pointed, loaded
from raydistill.student.shape import Classifier, Shape, no_bars
from raydistill.target import Target, decoded
from raydistill.task import Task, task
from raydistill.tokenizer import Encoded, Tokenizer


class Writer:
    """A model in memory: sentences to output tokens by transformers' own greedy `generate`."""

    def __init__(self, model: Any, tokenizer: Tokenizer, frame: Frame, size: Shape) -> None:
        self.model, self.tokenizer, self.frame, self.size = model, tokenizer, frame, size
        self.pad, self.end = tokenizer.id(frame.pad), tokenizer.id(frame.end)
        self.before, self.after = tokenizer.ids(frame.before), tokenizer.ids(frame.after)

    def tokens(self, sources: Sequence[Encoded], *, batch: int = 64) -> list[list[str]]:
        """The output tokens of each sentence, in order; longest first inside, to pad little."""
        out: list[list[str]] = [[] for _ in sources]
        order = sorted(range(len(sources)), key=lambda at: -len(sources[at].ids))
        for at in range(0, len(order), batch):
            rows = order[at : at + batch]
            for row, tokens in zip(rows, self._generate([sources[r] for r in rows]), strict=True):
                out[row] = tokens
        return out

    def _generate(self, sources: Sequence[Encoded]) -> list[list[str]]:
        limit = self.size.max_input - self.frame.width
        rows: list[Any] = [[*self.before, *one.ids[:limit], *self.after] for one in sources]
        causal = self.frame.kind == DECODER
        if causal:  # answers begin at one column
            ids = padded([row[::-1] for row in rows], self.pad)[:, ::-1]
            lengths = np.array([len(row) for row in rows])
            mask = np.arange(ids.shape[1])[::-1] < lengths[:, None]
        else:
            ids = padded(rows, self.pad)
            mask = ids != self.pad
        device = next(self.model.parameters()).device
        with torch.inference_mode():
            made = self.model.generate(
                input_ids=torch.from_numpy(ids.copy()).to(device),
                attention_mask=torch.from_numpy(mask.astype(np.int64)).to(device),
                max_new_tokens=self.size.max_output,
                num_beams=1,
                do_sample=False,
                eos_token_id=self.end,
                pad_token_id=self.pad,
            )
        # What comes before the answer: the prompt, or the decoder's start token.
        answers = made[:, ids.shape[1] if causal else 1 :].tolist()
        return [self._until_end(row) for row in answers]

    def _until_end(self, ids: list[int]) -> list[str]:
        kept = ids[: ids.index(self.end)] if self.end in ids else ids
        return [self.tokenizer.token(one) for one in kept]


class Extractor:
    """A master extractor: sentences to answers."""

    def __init__(self, folder: Path, *, threads: int = 1, device: str = "cpu") -> None:
        self.card: Card = card(folder)
        self.shape = shape(self.card)
        self.tokenizer = Tokenizer.load(folder)
        torch.set_num_threads(threads)
        no_bars()
        frame = self.card.frame
        model = loaded(folder) if frame.kind == POINTER else _writer(folder, frame)
        self.model = model.to(torch.device(device)).eval()
        self._ask(task(self.card.task), frame)

    def _ask(self, one: Task, frame: Frame) -> None:
        self.task = one
        self.target: Target = one.target(
            self.card.target,
            positions=self.shape.max_input if frame.positions is None else frame.positions,
            spell=self.tokenizer.spell,
            unspell=self.tokenizer.unspell,
        )
        slots = _places(self.card, one, self.target)
        self.writer = writer(self.model, self.tokenizer, frame, self.shape, slots)

    def asking(self, one: Task, frame: Frame) -> "Extractor":
        """The same student for another of its tasks."""
        other = copy.copy(self)
        other._ask(one, frame)
        return other

    def tokens(self, sources: Sequence[Encoded], *, batch: int = 64) -> list[list[str]]:
        """The output tokens of each sentence, in order."""
        return self.writer.tokens(sources, batch=batch)

    def answers(self, texts: Sequence[str]) -> list[Answer | AnswerError]:
        """The answer of each sentence, or the error that its tokens decode to."""
        encoded = self.tokenizer.encode(texts)
        return [
            decoded(self.target, tokens, one.source)
            for tokens, one in zip(self.tokens(encoded), encoded, strict=True)
        ]


def writer(
    model: Any, tokenizer: Tokenizer, frame: Frame, size: Shape, slots: Slots | None
) -> Writer | Pointed:
    """What turns sentences into this student's output tokens; `slots` of a pointer student."""
    if slots is not None:
        return Pointed(model, tokenizer, frame, slots, size.max_input)
    return Writer(model, tokenizer, frame, size)


def _places(card: Card, task: Task, target: Target) -> Slots | None:
    """Where a pointer student has its places for one of its tasks; None for other students."""
    if card.kind != POINTER:
        return None
    return slots_of(target, card.shape["records"], Offset(**card.shape["places"][task.name]))


def _writer(folder: Path, frame: Frame) -> Any:
    kind = AutoModelForCausalLM if frame.kind == DECODER else AutoModelForSeq2SeqLM
    return kind.from_pretrained(folder, dtype=torch.float32)


class Scorer:
    """An encoder in memory: sentences to the probability that they hold an event."""

    def __init__(self, model: nn.Module, tokenizer: Tokenizer, frame: Frame, size: Shape) -> None:
        self.model, self.tokenizer, self.limit = model, tokenizer, size.max_input - frame.width
        self.pad = tokenizer.id(frame.pad)
        self.before, self.after = tokenizer.ids(frame.before), tokenizer.ids(frame.after)

    def scores(self, texts: Sequence[str], *, batch: int = 64) -> list[float]:
        """The probability, 0..1, that each sentence holds an event."""
        return [sum(row[1:]) for row in self.shares(texts, batch=batch)]

    def shares(self, texts: Sequence[str], *, batch: int = 64) -> list[list[float]]:
        """The probability, 0..1, of each sentence's every class; the first is nothing."""
        encoded = self.tokenizer.batch_ids(texts)
        rows = [[*self.before, *one[: self.limit], *self.after] for one in encoded]
        order = sorted(range(len(rows)), key=lambda at: len(rows[at]))
        device = next(self.model.parameters()).device
        out: list[list[float]] = [[] for _ in rows]
        for at in range(0, len(order), batch):
            some = order[at : at + batch]
            ids = torch.from_numpy(padded([rows[r] or [self.pad] for r in some], self.pad))  # type: ignore[list-item]
            ids = ids.to(device)
            with torch.inference_mode():
                logits = self.model(input_ids=ids, attention_mask=(ids != self.pad).long())
            for row, shares in zip(some, logits.float().softmax(-1).tolist(), strict=True):
                out[row] = shares
        return out


class Skip(Scorer):
    """A master skip classifier."""

    def __init__(self, folder: Path, *, threads: int = 1, device: str = "cpu") -> None:
        self.card = card(folder)
        torch.set_num_threads(threads)
        no_bars()
        head = load_file(folder / "head.safetensors")
        model = Classifier(BertModel.from_pretrained(folder), len(head["bias"]))
        model.head.load_state_dict(head)
        model.to(torch.device(device)).eval()
        super().__init__(model, Tokenizer.load(folder), self.card.frame, shape(self.card))
