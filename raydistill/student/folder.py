"""Student folders: the high-precision master of a student, and what it answers.

A folder is in Hugging Face form (config.json, model.safetensors, tokenizer.json) with student.json
beside it: the task, the target, the shape and where it came from, written last.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForSeq2SeqLM, BertModel

from raydistill.answer import Answer
from raydistill.errors import AnswerError, SetupError
from raydistill.student.examples import Examples, padded
from raydistill.student.shape import Classifier, Kind, Shape
from raydistill.target import Target, decoded
from raydistill.task import Task, task
from raydistill.tokenizer import EOS, PAD, Encoded, Tokenizer

STUDENT = "student.json"


@dataclass(frozen=True, slots=True)
class Card:
    """What student.json says: enough to load, convert and govern the student."""

    kind: str
    target: str
    task: dict[str, Any]
    shape: dict[str, Any]
    training: dict[str, Any]
    dataset: str


class ExtractionLearner:
    """Teaches a sequence-to-sequence model the target tokens of each sentence."""

    def __init__(self, model: nn.Module, examples: Examples, tokenizer: Tokenizer) -> None:
        self.model, self.examples = model, examples
        self.pad = tokenizer.id(PAD)

    def loss(self, model: nn.Module, rows: Any, device: torch.device) -> tuple[torch.Tensor, int]:
        inputs = torch.from_numpy(padded([self.examples.inputs[row] for row in rows], self.pad))
        labels = torch.from_numpy(padded([self.examples.labels[row] for row in rows], -100))
        inputs, labels = inputs.to(device), labels.to(device)
        out = model(input_ids=inputs, attention_mask=(inputs != self.pad).long(), labels=labels)
        return out.loss, int(self.examples.costs[rows].sum())


class ClassificationLearner:
    """Teaches an encoder which sentences hold an event."""

    def __init__(self, model: nn.Module, examples: Examples, tokenizer: Tokenizer) -> None:
        self.model, self.examples = model, examples
        self.pad = tokenizer.id(PAD)

    def loss(self, model: nn.Module, rows: Any, device: torch.device) -> tuple[torch.Tensor, int]:
        inputs = torch.from_numpy(padded([self.examples.inputs[row] for row in rows], self.pad))
        labels = torch.tensor([int(self.examples.labels[row][0]) for row in rows])
        inputs, labels = inputs.to(device), labels.to(device)
        logits = model(input_ids=inputs, attention_mask=(inputs != self.pad).long())
        return nn.functional.cross_entropy(logits.float(), labels), int(inputs.numel())


def save(folder: Path, model: nn.Module, tokenizer: Tokenizer, card: Card) -> None:
    """Writes a student folder under a temporary name, then renames it; student.json is last."""
    temporary = folder.with_name(folder.name + ".tmp")
    temporary.mkdir(parents=True, exist_ok=True)
    model = model.to("cpu")
    inner = model.encoder if isinstance(model, Classifier) else model
    inner.save_pretrained(temporary)  # type: ignore[operator]
    if isinstance(model, Classifier):
        head = {"weight": model.head.weight.detach(), "bias": model.head.bias.detach()}
        save_file({k: v.contiguous() for k, v in head.items()}, temporary / "head.safetensors")
    tokenizer.save(temporary)
    (temporary / STUDENT).write_text(json.dumps(asdict(card), indent=2, ensure_ascii=False))
    if folder.exists():
        aside = folder.with_name(folder.name + ".old")
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)
        temporary.rename(folder)
        shutil.rmtree(aside, ignore_errors=True)
    else:
        temporary.rename(folder)


def card(folder: Path) -> Card:
    """What a student folder says of itself. Raises SetupError where no student is finished."""
    file = folder / STUDENT
    if not file.is_file():
        raise SetupError(
            f"{folder} holds no finished student ({STUDENT} is missing)",
            expected="a folder written by train",
            todo="run train, or correct the path",
        )
    return Card(**json.loads(file.read_text()))


class Extractor:
    """A master extractor: sentences to answers by transformers' own greedy `generate`."""

    def __init__(self, folder: Path, *, threads: int = 1, device: str = "cpu") -> None:
        self.card = card(folder)
        self.task: Task = task(self.card.task)
        self.shape = shape(self.card)
        self.tokenizer = Tokenizer.load(folder)
        self.target: Target = self.task.target(
            self.card.target,
            positions=self.shape.max_input,
            spell=self.tokenizer.spell,
            unspell=self.tokenizer.unspell,
        )
        self.device = torch.device(device)
        torch.set_num_threads(threads)
        self.model = AutoModelForSeq2SeqLM.from_pretrained(folder).to(self.device).eval()

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
        pad, eos = self.tokenizer.id(PAD), self.tokenizer.id(EOS)
        limit = self.shape.max_input - 1
        ids = torch.from_numpy(padded([[*one.ids[:limit], eos] for one in sources], pad))  # type: ignore[list-item]
        ids = ids.to(self.device)
        with torch.inference_mode():
            made = self.model.generate(
                input_ids=ids,
                attention_mask=(ids != pad).long(),
                max_new_tokens=self.shape.max_output,
                num_beams=1,
                do_sample=False,
            )
        rows = made[:, 1:].tolist()  # the first is the decoder's start token
        return [self._until_end(row, eos, pad) for row in rows]

    def _until_end(self, ids: list[int], eos: int, pad: int) -> list[str]:
        kept = ids[: ids.index(eos)] if eos in ids else [one for one in ids if one != pad]
        return [self.tokenizer.token(one) for one in kept]

    def answers(self, texts: Sequence[str]) -> list[Answer | AnswerError]:
        """The answer of each sentence, or the error that its tokens decode to."""
        encoded = self.tokenizer.encode(texts)
        return [
            decoded(self.target, tokens, one.source)
            for tokens, one in zip(self.tokens(encoded), encoded, strict=True)
        ]


class Skip:
    """A master skip classifier: sentences to the probability that they hold an event."""

    def __init__(self, folder: Path, *, threads: int = 1, device: str = "cpu") -> None:
        self.card = card(folder)
        self.shape = shape(self.card)
        self.tokenizer = Tokenizer.load(folder)
        torch.set_num_threads(threads)
        encoder = BertModel.from_pretrained(folder)
        head = load_file(folder / "head.safetensors")
        self.model = Classifier(encoder, len(head["bias"]))
        self.model.head.load_state_dict(head)
        self.device = torch.device(device)
        self.model.to(self.device).eval()

    def scores(self, texts: Sequence[str], *, batch: int = 64) -> list[float]:
        """The probability, 0..1, that each sentence holds an event."""
        pad = self.tokenizer.id(PAD)
        rows = [one.ids[: self.shape.max_input] for one in self.tokenizer.encode(texts)]
        order = sorted(range(len(rows)), key=lambda at: len(rows[at]))
        out = [0.0] * len(rows)
        for at in range(0, len(order), batch):
            some = order[at : at + batch]
            ids = torch.from_numpy(padded([rows[r] or [pad] for r in some], pad)).to(self.device)  # type: ignore[list-item]
            with torch.inference_mode():
                logits = self.model(input_ids=ids, attention_mask=(ids != pad).long())
            for row, score in zip(some, logits.float().softmax(-1)[:, 1].tolist(), strict=True):
                out[row] = score
        return out


def shape(one: Card) -> Shape:
    """The shape a student was made in."""
    values: dict[str, Any] = {**one.shape, "kind": Kind(one.shape["kind"])}
    return Shape(**values)
