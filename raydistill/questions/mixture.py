"""A mixture under training: rows of several tasks, each as often as its weight says."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from raydistill.dataset import Dataset
from raydistill.errors import SetupError
from raydistill.frame import Frame
from raydistill.questions.asking import asking, mark, rows_of, target_of
from raydistill.slots import Slots
from raydistill.student.examples import Examples, Ragged, extraction
from raydistill.student.masters import writer
from raydistill.student.pointer import pointing
from raydistill.student.shape import Shape
from raydistill.target import decoded
from raydistill.task import Task
from raydistill.tokenizer import Tokenizer


def repeated(rows: pa.Table, weight: float, *, seed: int) -> pa.Table:
    """Each row `weight` times its own weight, fractions going to rows that the seed draws."""
    order = np.random.default_rng(seed).permutation(len(rows))
    wanted = np.asarray(rows["weight"], np.float64)[order] * weight
    copies = np.diff(np.floor(np.cumsum(wanted) + 1e-6), prepend=0.0).astype(np.int64)
    return rows.take(pa.array(np.sort(np.repeat(order, copies))))


def check_weights(weights: Mapping[str, float], tasks: Sequence[Task]) -> None:
    """Refuses weights of unknown tasks, and negative ones."""
    names = [task.name for task in tasks]
    wrong = [name for name, weight in weights.items() if name not in names or weight < 0]
    if wrong:
        raise SetupError(
            f"weights of {', '.join(wrong)}",
            expected=f"numbers from 0 for {' | '.join(names)}",
            todo="correct weights=",
        )


def examples(
    data: Dataset,
    tokenizer: Tokenizer,
    frame: Frame,
    *,
    kind: str,
    weights: Mapping[str, float],
    size: Shape,
    places: Mapping[str, Slots] | None,
    seed: int,
) -> Examples:
    """The training rows of every task of a mixture, each as often as its weight says (once)."""
    check_weights(weights, data.tasks)
    table = data.table("train")
    parts: list[Examples] = []
    for task in data.tasks:
        asked = asking(frame, task)
        if tokenizer.raw.token_to_id(mark(task.name)) is None:
            raise SetupError(
                f"the student's tokenizer has no token {mark(task.name)}",
                expected="a student from scratch, which takes the dataset's tokenizer",
                todo="set student=questions_s",
            )
        rows = repeated(rows_of(table, task), weights.get(task.name, 1.0), seed=seed)
        what = (rows, task, target_of(task, kind, tokenizer, asked, size.max_input), tokenizer)
        how: dict[str, Any] = {"max_input": size.max_input, "frame": asked}
        if places is not None:
            parts.append(pointing(*what, places=places, **how))
        else:
            parts.append(extraction(*what, max_output=size.max_output, **how))
        print(f"train: {task.name}, {len(parts[-1]):,} examples", flush=True)
    return joined(parts)


def joined(parts: Sequence[Examples]) -> Examples:
    """Examples one behind another."""
    return Examples(
        _joined([part.inputs for part in parts]),
        _joined([part.labels for part in parts]),
        sum(part.dropped for part in parts),
        untaught=float(
            np.average([p.untaught for p in parts], weights=[max(1, len(p)) for p in parts])
        ),
    )


def _joined(parts: Sequence[Ragged]) -> Ragged:
    lengths = np.concatenate([part.lengths for part in parts])
    values = np.concatenate([part.values for part in parts])
    return Ragged(values, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


def agreement(
    data: Dataset,
    model: Any,
    tokenizer: Tokenizer,
    frame: Frame,
    *,
    kind: str,
    size: Shape,
    places: Mapping[str, Slots] | None,
    rows: int,
) -> float:
    """The mean over tasks of the share of validation texts whose whole answer is the teacher's."""
    found: list[float] = []
    table = data.table("val")
    for task in data.tasks:
        some = rows_of(table, task).slice(0, max(1, rows // len(data.tasks)))
        if not len(some):
            continue
        asked = asking(frame, task)
        target = target_of(task, kind, tokenizer, asked, size.max_input)
        encoded = tokenizer.encode(some["text"].to_pylist())
        slots = places[task.name] if places else None
        written = writer(model, tokenizer, asked, size, slots).tokens(encoded)
        hits = [
            decoded(target, tokens, one.source) == task.parse(answer, one.source.text)
            for tokens, one, answer in zip(
                written, encoded, some["answer"].to_pylist(), strict=True
            )
        ]
        found.append(float(np.mean(hits)))
    return float(np.mean(found)) if found else 0.0
