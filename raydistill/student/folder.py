"""Student folders: the high-precision master of a student, and what it answers.

A folder is in Hugging Face form (config.json, model.safetensors, tokenizer.json) with student.json
beside it: the task, the target, the shape and where it came from, written last.
"""

import json
import shutil
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from raydistill.errors import SetupError
from raydistill.frame import CARD as STUDENT
from raydistill.frame import Frame, of_card
from raydistill.student.examples import ANSWER_GRID, Examples
from raydistill.student.exported import exported
from raydistill.student.pointer import Pointer
from raydistill.student.shape import Classifier, Kind, Shape, no_bars
from raydistill.student.shift import Shift
from raydistill.tokenizer import PAD, Tokenizer


@dataclass(frozen=True, slots=True)
class Card:
    """What student.json says: enough to load, convert and govern the student."""

    kind: str
    target: str
    task: dict[str, Any]
    shape: dict[str, Any]
    training: dict[str, Any]
    dataset: str

    @property
    def frame(self) -> Frame:
        """How a sentence is presented to the student."""
        return of_card(self.kind, self.shape)


class ExtractionLearner:
    """Teaches a sequence-to-sequence model the target tokens of each sentence."""

    def __init__(
        self,
        model: nn.Module,
        examples: Examples,
        tokenizer: Tokenizer,
        *,
        pad: str = PAD,
        shift: float = 0.0,
    ) -> None:
        self.model, self.examples = model, examples
        self.pad = tokenizer.id(pad)
        self.shift = Shift(model, tokenizer, examples.inputs.lengths, shift) if shift else None

    def loss(self, model: nn.Module, rows: Any, device: torch.device) -> tuple[torch.Tensor, int]:
        inputs = torch.from_numpy(self.examples.inputs.batch(rows, self.pad))
        labels = torch.from_numpy(self.examples.labels.batch(rows, -100, ANSWER_GRID))
        inputs, labels = inputs.to(device), labels.to(device)
        if self.shift is not None:
            labels = self.shift(rows, inputs, labels, self.pad)
        out = model(input_ids=inputs, attention_mask=(inputs != self.pad).long(), labels=labels)
        return out.loss, int(self.examples.costs[rows].sum())


class ClassificationLearner:
    """Teaches an encoder which sentences hold an event, or of which classes they are."""

    def __init__(
        self, model: nn.Module, examples: Examples, tokenizer: Tokenizer, *, pad: str = PAD
    ) -> None:
        self.model, self.examples = model, examples
        self.pad = tokenizer.id(pad)

    def loss(self, model: nn.Module, rows: Any, device: torch.device) -> tuple[torch.Tensor, int]:
        inputs = torch.from_numpy(self.examples.inputs.batch(rows, self.pad))
        inputs, labels = inputs.to(device), self._labels(rows).to(device)
        logits = model(input_ids=inputs, attention_mask=(inputs != self.pad).long())
        return nn.functional.cross_entropy(logits.float(), labels), int(inputs.numel())

    def _labels(self, rows: Any) -> torch.Tensor:
        """The class of each row, or where rows have several the share of each (rows, classes)."""
        labels = self.examples.labels
        if labels.longest == 1:
            return torch.tensor([int(labels[row][0]) for row in rows])
        head: Any = self.model.head
        shares = torch.zeros(len(rows), head.out_features)
        for at, row in enumerate(rows):
            shares[at, labels[row].tolist()] = 1 / len(labels[row])
        return shares


def save(folder: Path, model: nn.Module, tokenizer: Tokenizer, card: Card) -> None:
    """Writes a student folder under a temporary name, then renames it; student.json is last."""
    temporary = folder.with_name(folder.name + ".tmp")
    temporary.mkdir(parents=True, exist_ok=True)
    no_bars()
    model = exported(model.to("cpu"), temporary)
    headed = isinstance(model, Classifier | Pointer)
    inner = model.encoder if headed else model
    inner.save_pretrained(temporary)  # type: ignore[operator]
    if headed:
        save_file(_head(model), temporary / "head.safetensors")
    tokenizer.save(temporary)
    _name_marks(temporary / "tokenizer_config.json", tokenizer, card.frame)
    (temporary / STUDENT).write_text(json.dumps(asdict(card), indent=2, ensure_ascii=False))
    if folder.exists():
        aside = folder.with_name(folder.name + ".old")
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)
        temporary.rename(folder)
        shutil.rmtree(aside, ignore_errors=True)
    else:
        temporary.rename(folder)


def _head(model: Classifier | Pointer) -> dict[str, torch.Tensor]:
    """The weights beside the encoder's, which the engine multiplies itself."""
    weights = (model.head if isinstance(model, Classifier) else model).state_dict()
    own = {name: one for name, one in weights.items() if not name.startswith("encoder.")}
    return {name: one.contiguous() for name, one in own.items()}


def _name_marks(file: Path, tokenizer: Tokenizer, frame: Frame) -> None:
    """Names the marks of a base's own tokenizer: converters would add ours to its vocabulary."""
    config = json.loads(file.read_text())
    own = json.loads(tokenizer.raw.to_str())["model"].get("unk_token")
    instead = {
        "pad_token": frame.pad,
        "eos_token": frame.end,
        "bos_token": frame.before[0] if frame.before else frame.end,
        "unk_token": own,
    }
    for name, token in instead.items():
        if tokenizer.raw.token_to_id(config.get(name, "")) is None:
            config[name] = token
    known = {name: value for name, value in config.items() if value is not None}
    file.write_text(json.dumps(known, indent=2))


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


def shape(one: Card) -> Shape:
    """The shape a student was made in."""
    known = {field.name for field in fields(Shape)}
    values: dict[str, Any] = {k: value for k, value in one.shape.items() if k in known}
    values["kind"] = Kind(one.shape["kind"])
    return Shape(**values)
