"""Start: what a run begins with: the untrained or pretrained student, its tokenizer and frame."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from raydistill.errors import AnswerError, SetupError
from raydistill.frame import Frame, scratch
from raydistill.slots import Slots, in_turn
from raydistill.student.decoder import DecoderLearner
from raydistill.student.examples import Examples
from raydistill.student.fit import Learner
from raydistill.student.folder import ClassificationLearner, ExtractionLearner
from raydistill.student.lora import LoraConfig, adapted, loading
from raydistill.student.pointer import PointingLearner, untrained
from raydistill.student.pretrained import add_tokens, base, instructed, pretrained
from raydistill.student.shape import Kind, Shape, model
from raydistill.target import Target
from raydistill.task import Task
from raydistill.tokenizer import Tokenizer

_FAITHFUL = 0.98  # share of answers that a tokenizer must write and read back unchanged


@dataclass(frozen=True, slots=True)
class Start:
    """A student before its first step.

    `target` is None for a classifier, `places` (by task) for all but a pointer student.
    """

    model: nn.Module
    tokenizer: Tokenizer
    frame: Frame
    target: Target | None
    places: dict[str, Slots] | None = None


def start(
    shape: Shape,
    tasks: Sequence[Task],
    tokenizer: Tokenizer,
    *,
    target: str,
    positions: int,
    seed: int,
    lora: LoraConfig | None = None,
    classes: int = 2,
) -> Start:
    """The student of `shape`; one from scratch takes the dataset's `tokenizer` and `positions`.

    `classes` is how many a classifier tells apart. A student that writes takes all tasks alike, in
    the target of the first; a pointer student has places for each.
    """
    lora = lora or LoraConfig()

    if not shape.base:
        if lora.rank:
            raise SetupError(
                f"train.lora.rank={lora.rank} for a student from scratch",
                todo="set student.base=, or lora.rank=0",
            )
        frame = scratch(shape.kind.value)
        targets = _targets(shape, tasks, tokenizer, frame, target, positions)
        places = _places(shape, targets)
        if places is not None:
            made = untrained(shape, tokenizer, places, seed=seed)
        else:
            made = model(shape, tokenizer, classes=classes, seed=seed)
        return Start(made, tokenizer, frame, targets.get(tasks[0].name), places)
    config, tokenizer, frame = base(shape)
    if shape.prompt:
        frame = instructed(frame, tokenizer, tasks[0].instruction)
    targets = _targets(shape, tasks, tokenizer, frame, target, shape.max_input)
    first, places = targets.get(tasks[0].name), _places(shape, targets)
    added = first.tokens() if first and not places else []
    if lora.rank and (places or not first):
        raise SetupError(
            f"train.lora.rank={lora.rank} for a student of kind {shape.kind.value}",
            expected="a student that writes its answers",
            todo="set lora.rank=0",
        )
    made: Any = pretrained(
        shape, config, tokenizer, added, frame=frame, seed=seed, classes=classes, places=places,
        **loading(lora),
    )  # fmt: skip
    if lora.rank:
        made = adapted(made, lora, add_tokens(made, tokenizer, added))
    return Start(made, tokenizer, frame, first, places)


def _targets(
    shape: Shape,
    tasks: Sequence[Task],
    tokenizer: Tokenizer,
    frame: Frame,
    kind: str,
    positions: int,
) -> dict[str, Target]:
    """How the answers of each task are written; nothing where the student is a classifier."""
    if shape.kind is Kind.encoder:
        return {}
    at = positions if frame.positions is None else frame.positions
    spell, unspell = tokenizer.spell, tokenizer.unspell
    return {
        task.name: task.target(kind, positions=at, spell=spell, unspell=unspell) for task in tasks
    }


def _places(shape: Shape, targets: Mapping[str, Target]) -> dict[str, Slots] | None:
    return in_turn(targets, shape.records) if shape.kind is Kind.pointer else None


def learner(begun: Start, examples: Examples, *, pack: int = 0, shift: float = 0.0) -> Learner:
    """What teaches this student these examples; `pack` and `shift` as in FitConfig."""
    frame, tokenizer = begun.frame, begun.tokenizer
    if shift and frame.kind != Kind.seq2seq.value:
        raise SetupError(
            f"train.fit.shift={shift:g} for a student of kind {frame.kind}",
            expected="a seq2seq student",
            todo="set fit.shift=0",
        )
    if frame.kind == Kind.decoder.value:
        return DecoderLearner(begun.model, examples, tokenizer, frame=frame, pack=pack)
    if pack:
        raise SetupError(
            f"train.fit.pack={pack} for a student of kind {frame.kind}",
            expected="a decoder",
            todo="set fit.pack=0",
        )
    if begun.places is not None:
        return PointingLearner(begun.model, examples, tokenizer, begun.places, frame)
    if frame.kind == Kind.encoder.value:
        return ClassificationLearner(begun.model, examples, tokenizer, pad=frame.pad)
    return ExtractionLearner(begun.model, examples, tokenizer, pad=frame.pad, shift=shift)


def refuse_unfaithful(
    begun: Start, task: Task, rows: Sequence[tuple[str, str]], target: str
) -> None:
    """Raises SetupError where the tokenizer cannot write `rows`' (text, answer) in this target.

    A T5 vocabulary, for one, has no braces: JSON comes back from it as unknown tokens.
    """
    if begun.target is None or begun.places is not None or not rows:
        return
    tokenizer, kept = begun.tokenizer, []
    for text, json in rows:
        source = tokenizer.encode([text])[0].source
        answer = task.parse(json, text)
        ids = tokenizer.ids(begun.target.encode(answer, source))
        try:
            again = begun.target.decode([tokenizer.token(one) for one in ids], source)
        except AnswerError:
            kept.append(False)
            continue
        kept.append(again == answer)
    share = float(np.mean(kept))
    if share < _FAITHFUL:
        raise SetupError(
            f"the student's tokenizer gives back {share:.0%} of answers written as target={target}",
            expected=f"at least {_FAITHFUL:.0%}",
            todo="set another target= (compact | literal | json), or another student.base",
        )
