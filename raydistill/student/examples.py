"""Examples: rows of a dataset as token ids, and the order in which an epoch visits them.

Ids of all rows lie in two flat arrays, so that a million examples take ~200 MB. The order is a pure
function of seed and epoch: a resumed run, on any number of workers, goes on where it stopped.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raydistill.answer import Answer
from raydistill.errors import AnswerError, SetupError
from raydistill.frame import ENCODER, SEQ2SEQ, Frame, scratch
from raydistill.target import Target
from raydistill.task import Task
from raydistill.tokenizer import Tokenizer

Ids = NDArray[np.int32]
_POOL_BATCHES = 192  # batches are cut from length-sorted pools of about this many
# Batches come in few shapes: matrix libraries compile a kernel for each shape they meet, which on a
# CPU takes longer than a small student's product itself (12,000 tokens/s became 18,000).
GRID = 8
# Answers more coarsely: batches of nothing but "no event" would each teach to say so always.
ANSWER_GRID = 16


@dataclass(frozen=True)
class Ragged:
    """Rows of different lengths in one flat array."""

    values: Ids
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> "Ragged":
        lengths = np.fromiter((len(row) for row in rows), np.int64, len(rows))
        flat = np.fromiter((v for row in rows for v in row), np.int32, int(lengths.sum()))
        return cls(flat, np.concatenate([[0], np.cumsum(lengths)]))

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, row: int) -> Ids:
        return self.values[self.starts[row] : self.starts[row + 1]]

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.starts)

    @cached_property
    def longest(self) -> int:
        """The length of the longest row."""
        return int(self.lengths.max())

    def widths(self, grid: int) -> NDArray[np.int64]:
        """The columns that each row takes: multiples of `grid`, at most the longest row."""
        return np.minimum(-(-self.lengths // grid) * grid, self.longest)

    def batch(self, rows: Ids, fill: int, grid: int = GRID) -> NDArray[np.int64]:
        """Some rows as one array of as many columns as the widest of them takes."""
        widest = max((len(self[row]) for row in rows), default=1)
        width = min(-(-widest // grid) * grid, self.longest)
        return padded([self[row] for row in rows], fill, width)


@dataclass(frozen=True)
class Examples:
    """Inputs and labels of a student, row by row.

    `dropped` rows were longer than it reads, `cut` ones were cut to what it reads; `untaught` is
    the share (0..1) of values that a pointer student has no class for and nothing to point at.
    """

    inputs: Ragged
    labels: Ragged
    dropped: int
    cut: int = 0
    untaught: float = 0.0

    def __len__(self) -> int:
        return len(self.inputs)

    @cached_property
    def costs(self) -> NDArray[np.int64]:
        """Tokens of each row, input and label, ends included."""
        return self.inputs.lengths + self.labels.lengths

    @property
    def masked(self) -> float:
        """The share of tokens that are read only: the loss is on the others."""
        answers = int(self.labels.lengths.sum())
        return 1 - answers / max(1, answers + int(self.inputs.lengths.sum()))


def extraction(
    table: pa.Table,
    task: Task,
    target: Target,
    tokenizer: Tokenizer,
    *,
    max_input: int,
    max_output: int,
    frame: Frame | None = None,
) -> Examples:
    """Framed sentences and the target tokens of their answers. Rows over a limit are dropped."""
    frame = frame or scratch(SEQ2SEQ)
    before, after = tokenizer.ids(frame.before), tokenizer.ids(frame.after)
    end = tokenizer.id(frame.end)
    inputs: list[list[int]] = []
    labels: list[list[int]] = []
    dropped = 0
    for batch in table.select(["text", "answer"]).to_batches(max_chunksize=4096):
        texts: list[str] = batch.column("text").to_pylist()
        encoded = tokenizer.encode(texts)
        for one, answer in zip(encoded, batch.column("answer").to_pylist(), strict=True):
            said = answer_of(task, answer, one.source.text)
            label = tokenizer.ids(target.encode(said, one.source))
            if len(one.ids) + frame.width > max_input or len(label) + 1 > max_output:
                dropped += 1
                continue
            inputs.append([*before, *one.ids, *after])
            labels.append([*label, end])
    return Examples(Ragged.of(inputs), Ragged.of(labels), dropped)


def answer_of(task: Task, answer: str, text: str) -> Answer:
    """The answer that a row of a dataset holds as JSON. Raises SetupError where it is none."""
    try:
        return task.parse(answer, text)
    except AnswerError as problem:
        raise SetupError(
            f"a row of the dataset has an answer that is none of {task.name}: {problem}",
            expected="answers in the task's JSON form",
            todo="run build again",
        ) from None


def classification(
    table: pa.Table,
    tokenizer: Tokenizer,
    *,
    max_input: int,
    frame: Frame | None = None,
    classes: Sequence[Sequence[int]] | None = None,
) -> Examples:
    """Sentences and whether the teacher found anything; long ones are cut at `max_input`.

    `classes` are those of each row, where there are more than these two.
    """
    frame = frame or scratch(ENCODER)
    before, after = tokenizer.ids(frame.before), tokenizer.ids(frame.after)
    limit, end = max_input - frame.width, tokenizer.id(frame.end)
    rows: list[list[int]] = []
    cut = 0
    for batch in table.select(["text"]).to_batches(max_chunksize=4096):
        encoded = tokenizer.batch_ids(batch.column("text").to_pylist())
        cut += sum(len(one) > limit for one in encoded)
        rows += [[*before, *one[:limit], *after] or [end] for one in encoded]
    labels = classes or [[int(one)] for one in table.column("keep").to_pylist()]
    return Examples(Ragged.of(rows), Ragged.of(labels), 0, cut)


def epoch(examples: Examples, *, seed: int, number: int, batch_tokens: int) -> list[Ids]:
    """The batches (row numbers) of one epoch: every row once, rows of like length together.

    A batch's padded tokens stay within `batch_tokens` unless one row alone is longer.
    """
    order = np.random.default_rng((seed, number)).permutation(len(examples)).astype(np.int32)
    widths = np.stack([examples.inputs.widths(GRID), examples.labels.widths(ANSWER_GRID)])
    mean = max(1.0, float(widths.sum(0).mean())) if len(examples) else 1.0
    pool = max(1, int(_POOL_BATCHES * batch_tokens / mean))
    batches: list[Ids] = []
    for at in range(0, len(order), pool):
        rows = order[at : at + pool]
        batches += _cut(rows[np.lexsort(widths[::-1, rows])], widths, batch_tokens)
    mixed = np.random.default_rng((seed, number, 1)).permutation(len(batches))
    return [batches[one] for one in mixed]


def _cut(rows: Ids, widths: NDArray[np.int64], budget: int) -> list[Ids]:
    """Rows sorted by width in runs of few sizes: multiples of GRID rows, within the budget."""
    out: list[Ids] = []
    start, widest = 0, np.zeros(2, np.int64)
    for at, row in enumerate(rows):
        wider = np.maximum(widest, widths[:, row])
        most = max(1, budget // int(wider.sum()))
        if at - start >= (most // GRID * GRID or most):
            out.append(rows[start:at])
            start, wider = at, widths[:, row]
        widest = wider
    return [*out, rows[start:]] if len(rows) else out


def padded(rows: Sequence[Ids], value: int, width: int = 1) -> NDArray[np.int64]:
    """The rows as one array (rows, longest or `width`), filled with `value`."""
    width = max([width, *map(len, rows)])
    out = np.full((len(rows), width), value, np.int64)
    for at, row in enumerate(rows):
        out[at, : len(row)] = row
    return out
