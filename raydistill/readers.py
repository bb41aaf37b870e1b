"""Readers: quantised encoders with heads of their own: the skip classifier, the pointer student."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from raydistill.choosing import answers
from raydistill.engine import Encoder, Floats, Generated, Rows
from raydistill.errors import SetupError
from raydistill.frame import Frame, card_of
from raydistill.slots import Offset, Slots, slots_of
from raydistill.target import Target
from raydistill.tokenizer import Encoded

# What lies beside a sentence in its batch changes its figures in their last bits. A score as near
# as this to the threshold, or a choice won by less (in log-probability), is read again alone.
_NEAR = 0.05
_TIE = 0.02
# Of a batch of one length the encoder gives each sentence what it gives it alone, to the last bit;
# the products here may differ by 2e-5. So much nearer is near there: fifty times that.
_ALIKE = 0.05
# Tokens of a pointer student's rows that are chosen together (128 sentences or so): a batch has too
# few to be worth numpy's calls; of long sentences all pairs of tokens are looked at.
_TOGETHER = 4096


class SkipScorer:
    """An int8 skip classifier: token ids to the probability that a sentence holds an event."""

    def __init__(self, folder: Path, *, threads: int, max_input: int, threshold: float) -> None:
        self.threshold = threshold
        self.encoder = Encoder(folder, threads=threads, max_input=max_input)
        head = load_file(str(folder / "head.safetensors"))
        self.weight: Floats = head["weight"]
        self.bias: Floats = head["bias"]

    @property
    def classes(self) -> int:
        """How many classes it tells apart; the first is nothing."""
        return len(self.bias)

    def __call__(self, ids: Sequence[Sequence[int]]) -> Floats:
        """Probabilities (sentences,) of token ids; long sentences are cut to fit.

        On which side of the threshold a sentence lies does not depend on those beside it.
        """
        rows = self.encoder.framed(ids)
        out, limits = np.zeros((2, len(rows)), np.float32)

        def scored(batch: Rows, hidden: Floats, sizes: NDArray[np.int32]) -> None:
            out[batch] = self._shares(hidden, sizes)[:, 1:].sum(1)
            limits[batch] = _near(_NEAR, sizes)

        self.encoder.read(rows, self.encoder.batches(rows), scored)
        near = np.flatnonzero(np.abs(out - self.threshold) < limits)
        self.encoder.read(rows, [np.array([row]) for row in near], scored)
        return out

    def shares(self, ids: Sequence[Sequence[int]]) -> Floats:
        """Probabilities (sentences, classes) of token ids, each sentence read by itself."""
        rows = self.encoder.framed(ids)
        out = np.zeros((len(rows), self.classes), np.float32)

        def shared(batch: Rows, hidden: Floats, sizes: NDArray[np.int32]) -> None:
            out[batch] = self._shares(hidden, sizes)

        self.encoder.read(rows, [np.array([at]) for at in range(len(rows))], shared)
        return out

    def _shares(self, hidden: Floats, sizes: NDArray[np.int32]) -> Floats:
        mask = (np.arange(hidden.shape[1]) < sizes[:, None]).astype(np.float32)
        mean = np.einsum("rtw,rt->rw", hidden, mask) / sizes[:, None]
        return _softmax(mean @ self.weight.T + self.bias)


class Pointers:
    """An int8 pointer student: sentences to output tokens, in one pass and in numpy."""

    def __init__(self, folder: Path, *, threads: int, max_input: int) -> None:
        self.folder, self.shape = folder, card_of(folder)["shape"]
        self.encoder = Encoder(folder, threads=threads, max_input=max_input)
        self.weights: dict[str, Floats] = load_file(str(folder / "head.safetensors"))
        self.slots: Slots | None = None

    def asked(self, task: str, target: Target) -> "Pointers":
        """The same student for one of its tasks. Raises SetupError where it has none like it."""
        begin = self.shape["places"].get(task)
        other = copy.copy(self)
        if begin is not None:
            other.slots = slots_of(target, self.shape["records"], Offset(**begin))
        classes = len(self.weights["head_classes.bias"])
        if other.slots is None or other.slots.end.classes > classes:
            raise SetupError(
                f"{self.folder} answers {', '.join(self.shape['places'])}, {classes} classes",
                expected=f"the task {task} of its dataset",
                todo="train it on this dataset, and publish again",
            )
        return other

    def __call__(self, sources: Sequence[Encoded], frame: Frame | None = None) -> list[Generated]:
        """The output of each sentence, in order, whatever sentences stand beside it."""
        rows = self.encoder.framed([one.ids for one in sources], frame)
        slots = self.slots
        if slots is None:
            raise RuntimeError("asked for no task")
        out: dict[int, Generated] = {}
        ties = self._read(slots, rows, sources, self.encoder.batches(rows), out)
        alone = [np.array([row]) for row in sorted(ties)]
        self._read(slots, rows, sources, alone, out)
        return [out[row] for row in range(len(rows))]

    def _read(
        self,
        slots: Slots,
        rows: Sequence[Sequence[int]],
        sources: Sequence[Encoded],
        batches: Sequence[Rows],
        out: dict[int, Generated],
    ) -> list[int]:
        """Puts what batches say into `out`; gives the rows of which some choice was hardly won."""
        ties: list[int] = []
        gathered = _Gathered()

        def read(batch: Rows, hidden: Floats, sizes: NDArray[np.int32]) -> None:
            classes, points = self._logits(hidden, sizes)
            points = points[..., len(self.encoder.frame.before) :]
            choose(gathered.add(_Read(batch.tolist(), classes, points, _near(_TIE, sizes))))

        def choose(some: list[_Read]) -> None:
            numbers = [row for one in some for row in one.rows]
            limits = [one.near for one in some for _ in one.rows]
            texts = [sources[row].source for row in numbers]
            said = answers(slots, *_joined(some), texts) if some else []
            for row, one, limit in zip(numbers, said, limits, strict=True):
                out[row] = Generated(one.tokens, one.score)
                if one.margin < limit:
                    ties.append(row)

        self.encoder.read(rows, batches, read)
        choose(gathered.rest())
        return ties

    def alternatives(
        self, sources: Sequence[Encoded], count: int, frame: Frame | None = None
    ) -> list[list[Generated]]:
        """Its one output of each sentence: choices made together have no second best."""
        return [[one] for one in self(sources, frame)]

    def _logits(self, hidden: Floats, sizes: NDArray[np.int32]) -> tuple[Floats, Floats]:
        """The master's sums: classes (rows, places, n) and points (rows, places, n, tokens)."""
        rows, tokens, width = hidden.shape
        look = self._linear("head_slots", hidden)
        look[np.arange(tokens) >= sizes[:, None]] = -np.inf
        read = _softmax(look.swapaxes(1, 2)) @ hidden
        read = self._norm(read + _gelu(self._linear("mix", read)))
        asked = self._linear("queries", read).reshape(rows, -1, width)
        points = asked @ hidden.swapaxes(1, 2) / np.float32(width**0.5)
        points = points.reshape(rows, read.shape[1], -1, tokens)
        return self._linear("head_classes", read), points

    def _linear(self, name: str, values: Floats) -> Floats:
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        # One product instead of one for each row of the batch.
        flat = values.reshape(-1, values.shape[-1]) @ weight.T
        return (flat + bias).reshape(*values.shape[:-1], -1)

    def _norm(self, values: Floats) -> Floats:
        centred = values - values.mean(-1, keepdims=True)
        scale = np.sqrt((centred**2).mean(-1, keepdims=True) + np.float32(1e-5))
        return centred / scale * self.weights["norm.weight"] + self.weights["norm.bias"]


@dataclass(frozen=True, slots=True)
class _Read:
    """What a batch says: its rows, classes, points, and the margin below which a choice is near."""

    rows: list[int]
    classes: Floats
    points: Floats
    near: float


class _Gathered:
    """Batches that wait until there are enough to be chosen together; threads share it."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.waiting: list[_Read] = []

    def add(self, one: _Read) -> list[_Read]:
        """All that wait where they are enough, else none."""
        with self.lock:
            self.waiting.append(one)
            tokens = sum(len(one.rows) * one.points.shape[-1] for one in self.waiting)
            return self._taken() if tokens >= _TOGETHER else []

    def rest(self) -> list[_Read]:
        """All that still wait."""
        with self.lock:
            return self._taken()

    def _taken(self) -> list[_Read]:
        taken, self.waiting = self.waiting, []
        return taken


def _joined(some: Sequence[_Read]) -> tuple[Floats, Floats]:
    """Classes and points of several batches; what lies behind the tokens of a shorter one is 0."""
    if len(some) == 1:
        return some[0].classes, some[0].points
    shape = some[0].points.shape
    count, most = sum(len(one.rows) for one in some), max(one.points.shape[-1] for one in some)
    points = np.zeros((count, *shape[1:-1], most), np.float32)
    at = 0
    for one in some:
        points[at : at + len(one.rows), ..., : one.points.shape[-1]] = one.points
        at += len(one.rows)
    return np.concatenate([one.classes for one in some]), points


def _near(limit: float, sizes: NDArray[np.int32]) -> float:
    """How near is near in a batch of these lengths."""
    return limit * _ALIKE if sizes.min() == sizes.max() else limit


def _softmax(logits: Floats) -> Floats:
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


def _gelu(values: Floats) -> Floats:
    inner = np.float32((2 / np.pi) ** 0.5) * (
        values + np.float32(0.044715) * values * values * values  # numpy's ** is 20 times slower
    )
    return np.float32(0.5) * values * (1 + np.tanh(inner))
