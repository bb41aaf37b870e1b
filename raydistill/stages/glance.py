"""The glance: a linear model over words, so cheap that the classifier sees only what it doubts.

It reads Arrow's bytes, a whole column at once, hundreds of times faster than the classifier. Words
are runs of ASCII letters, digits, $ and %, in lower case and with every digit as 0; whatever else
there is stands between words.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from raydistill.errors import SetupError
from raydistill.stages.pieces import pieces

pc: Any = compute  # pyarrow makes its functions at import, so a type checker cannot know them

FILE = "glance.safetensors"
BITS = 18  # of the table that words and pairs of words are hashed into

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Hashes = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Glance:
    """Keeps the rows whose `text` scores at least `threshold`, and those without text.

    From `sure` on there is no need to ask the classifier: such rows get their probability as
    `skip_score`, a column that others leave null (and that a glance never sure does not add).
    A score is in log-odds: `bias` and the `weights` (float32, 2 ** BITS) of a sentence's words and
    pairs of neighbouring words, over the square root of how many words it has. It is the same alone
    and among others, to the last bit.
    """

    weights: NDArray[np.float32]
    bias: float
    threshold: float
    sure: float = math.inf

    @classmethod
    def load(cls, file: Path, *, threshold: float, sure: float = math.inf) -> "Glance":
        """The glance in `file`. Raises SetupError where it is none."""
        try:
            found = load_file(str(file))
            weights, bias = found["weights"], found["bias"]
            if weights.shape != (2**BITS,) or bias.shape != (1,):
                raise ValueError(f"weights of shape {weights.shape}")
        except (OSError, KeyError, ValueError, SafetensorError) as problem:
            raise SetupError(f"{file} is no glance: {problem}", todo="publish again") from None
        return cls(weights, float(bias[0]), threshold, sure)

    def save(self, file: Path) -> None:
        """Writes weights and bias; the thresholds stand in the release's manifest."""
        save_file({"weights": self.weights, "bias": np.array([self.bias])}, str(file))

    def __call__(self, batch: pa.Table) -> pa.Table:
        text, scores = batch["text"], self.scores(batch["text"])
        keep = self._keep(text, scores)
        if math.isinf(self.sure):
            return batch.filter(keep)
        doubted = (scores < self.sure) | np.asarray(pc.is_null(text))
        likely = 1 / (1 + np.exp(-scores))
        column = pa.array(likely.astype(np.float32), mask=doubted)
        return batch.append_column("skip_score", column).filter(keep)

    def keep(self, texts: "pa.Array | pa.ChunkedArray") -> pa.Array:
        """Whether each sentence passes; true for null."""
        return self._keep(texts, self.scores(texts))

    def _keep(self, texts: "pa.Array | pa.ChunkedArray", scores: Floats) -> pa.Array:
        return pc.or_(pa.array(scores >= self.threshold), pc.is_null(texts))

    def scores(self, texts: "pa.Array | pa.ChunkedArray") -> Floats:
        """The score of each sentence (sentences,); that of null is the bias."""
        parts = [np.empty(0, np.float64)]
        for _, piece in pieces(texts):
            found = features(piece)
            total = _summed(found.rows, self.weights[found.columns], len(piece))
            total += _summed(found.pair_rows, self.weights[found.pair_columns], len(piece))
            parts.append(self.bias + total * found.scale)
        return np.concatenate(parts)


def _summed(rows: Ints, values: NDArray[np.float32], count: int) -> Floats:
    sums: Any = np.bincount(rows, values, count)  # its stub knows counts alone
    return sums


class Features(NamedTuple):
    """Row and column of each word and of each pair of neighbours; by row, what they weigh."""

    rows: Ints
    columns: Ints
    pair_rows: Ints
    pair_columns: Ints
    scale: Floats


def features(texts: Any) -> Features:
    """The features of a large_string array without nulls."""
    body, starts, ends, counts = _words(texts)
    rows = np.repeat(np.arange(len(counts)), counts)
    hashes = _hashes(body, starts, ends)
    together = np.flatnonzero(rows[1:] == rows[:-1])
    pairs = _mixed(hashes[together] * _FIRST + hashes[together + 1])
    shift = np.uint64(64 - BITS)
    return Features(
        rows,
        (hashes >> shift).astype(np.int64),
        rows[together],
        (pairs >> shift).astype(np.int64),
        1 / np.sqrt(np.maximum(counts, 1)),
    )


_PAD = 8  # bytes before and behind: a word is read as 8 bytes from its start, and 8 to its end
_LETTERS = np.zeros(256, np.uint8)  # what a byte stands for; 0 is no part of a word
for _one in b"abcdefghijklmnopqrstuvwxyz0123456789$%":
    _LETTERS[_one] = ord("0") if chr(_one).isdigit() else _one
    _LETTERS[ord(chr(_one).upper())] = _LETTERS[_one]
_MASKS = np.array([(1 << 8 * bytes_) - 1 for bytes_ in range(9)], np.uint64)
_FIRST, _LAST = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)


def _words(texts: Any) -> tuple[NDArray[np.uint8], Ints, Ints, Ints]:
    """The padded bytes of all texts, where each word starts and ends in them, words by text."""
    edges = np.frombuffer(texts.buffers()[1], np.int64)[texts.offset :][: len(texts) + 1]
    size = int(edges[-1] - edges[0]) if len(texts) else 0
    body = np.zeros(size + 2 * _PAD, np.uint8)
    if not size:
        empty = np.empty(0, np.int64)
        return body, empty, empty, np.zeros(len(texts), np.int64)
    raw = np.frombuffer(texts.buffers()[2], np.uint8)[edges[0] : edges[-1]]
    np.take(_LETTERS, raw, out=body[_PAD : _PAD + size])
    edges = edges - edges[0]
    inside = body[_PAD : _PAD + size + 1] != 0
    first = inside.copy()
    first[1:] &= ~inside[:-1]
    first[edges] = inside[edges]  # Arrow lays texts end to end: the next one is another word
    last = inside[:-1] & (~inside[1:] | first[1:])
    starts, ends = np.flatnonzero(first), np.flatnonzero(last) + 1
    return body, starts + _PAD, ends + _PAD, np.diff(np.searchsorted(starts, edges))


def _hashes(body: NDArray[np.uint8], starts: Ints, ends: Ints) -> Hashes:
    """A hash of each word's first and last eight bytes: longer words are rare, and few differ."""
    eights = np.ndarray((len(body) - 7,), "<u8", body.data, 0, (1,))
    lengths = ends - starts
    hashes = (eights[starts] & _MASKS[np.minimum(lengths, 8)]) * _FIRST
    long = np.flatnonzero(lengths > 8)
    hashes[long] += _mixed(eights[ends[long] - 8]) * _LAST
    return _mixed(hashes)


def _mixed(hashes: Hashes) -> Hashes:
    hashes = hashes ^ (hashes >> np.uint64(31))
    hashes *= np.uint64(0xBF58476D1CE4E5B9)
    return hashes ^ (hashes >> np.uint64(29))
