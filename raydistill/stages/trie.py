"""Words and phrases of ASCII as a trie, and the rows of a column that hold one of them.

It reads Arrow's own memory, and says what `keyword.reference` says, exactly: white space and
letters beyond ASCII beside or within a match are taken from the same lists. walk.py has the loops.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raydistill.stages.keyword import WHITE, Entry, word_class
from raydistill.stages.walk import (
    AHEAD,
    ANY_END,
    CLOSED,
    FACTOR,
    FIRST,
    LONG,
    OPEN,
    SECOND,
    WHITE_SPACE,
    WORD_END,
    Trie,
    rows,
)

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

# Bits of a table for each keyword: one in 128 of other words is looked up in the trie for nothing.
BITS = 128
ALL_BITS = (1 << 64) - 1


def spoken(entry: Entry) -> bool:
    """Whether the trie can say what a keyword means."""
    return not entry.regex and all(word.isascii() for word in entry.words)


class Words:
    """Finds the rows that hold one of some keywords, each of them `spoken`."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.trie, self._arrays = trie(entries)

    def found(self, texts: "pa.Array | pa.ChunkedArray") -> Bools:
        """Whether each text holds a keyword; false for null."""
        found = np.zeros(len(texts), np.bool_)
        first = 0
        for part in texts.chunks if isinstance(texts, pa.ChunkedArray) else [texts]:
            self._mark(part.cast(pa.large_string()), found[first : first + len(part)])
            first += len(part)
        return found

    def _mark(self, texts: Any, found: Bools) -> None:
        """Writes the same for one array into `found`."""
        _, offsets, body = texts.buffers()
        if not len(texts) or body is None or not body.size:
            return
        count = texts.offset + len(texts) + 1
        stops = np.frombuffer(offsets, np.int64, count)[texts.offset :]
        # The last texts, where reading ahead would leave Arrow's memory, are read in a copy.
        safe = int(np.searchsorted(stops[1:], body.size - AHEAD, "right"))
        start, stop = int(stops[safe]), int(stops[-1])
        copied = np.zeros(stop - start + AHEAD, np.uint8)
        copied[: stop - start] = np.frombuffer(body, np.uint8)[start:stop]
        rows(self.trie, body.address, _address(stops), found[:safe])
        rows(self.trie, _address(copied) - start, _address(stops[safe:]), found[safe:])
        if texts.null_count:  # what lies below a null is anything
            found &= texts.is_valid().to_numpy(zero_copy_only=False)


def _address(array: Any) -> int:
    return array.ctypes.data


def trie(entries: Sequence[Entry]) -> tuple[Trie, list[Any]]:
    """The keywords as a trie, with tables of what they start with, and the arrays it points at."""
    nodes, symbols, final = _nodes(entries)
    starts, exact, stems, firsts, anywhere = _starts(entries)
    stem, any_ = _shortest(stems), _shortest(anywhere)
    bits = max(12, (BITS * len(entries) - 1).bit_length())
    keys = (
        map(_folded, starts),
        map(_exact, exact),
        (_folded(start[:stem]) for start in stems),
        map(_folded, firsts),
        (_folded(start[:any_]) for start in anywhere),
    )
    letters, white = _bounds(word_class()), _bounds(WHITE)
    arrays = [nodes, symbols, final, *(_table(each, bits) for each in keys), letters, white]
    found = Trie(
        *(_address(array) for array in arrays),
        width=nodes.shape[1],
        shift=64 - bits,
        stem_mask=_mask(stem),
        anywhere_mask=_mask(any_),
        shortest=_shortest_run(entries),
        letter_bounds=len(letters),
        white_bounds=len(white),
    )
    return found, arrays


def _nodes(entries: Iterable[Entry]) -> tuple[Any, Any, Any]:
    """The next node by node and symbol, the symbol of each byte, and what each node ends."""
    children: dict[tuple[int, int], int] = {}
    final = [0, 0, 0]  # DEAD, CLOSED, OPEN
    for e in entries:
        node = OPEN if e.open_start else CLOSED
        for byte in " ".join(e.words).lower().encode():
            node = children.setdefault((node, byte), len(final))
            if node == len(final):
                final.append(0)
        final[node] |= ANY_END if e.open_end else WORD_END
    symbols = np.zeros(256, np.uint8)
    symbols[[*range(9, 14), ord(" "), *range(128, 256)]] = WHITE_SPACE  # or it may be
    found = sorted({byte for _, byte in children} - {ord(" ")})
    for symbol, byte in enumerate(found, WHITE_SPACE + 1):
        symbols[[byte, ord(chr(byte).upper())]] = symbol
    nodes = np.zeros((len(final), len(found) + WHITE_SPACE + 1), np.int32)
    for (node, byte), child in children.items():
        nodes[node, symbols[byte]] = child
    return nodes, symbols, np.array(final, np.uint8)


def _starts(entries: Iterable[Entry]) -> list[list[bytes]]:
    """What keywords start with, apart by the table of Trie: `starts` to `anywhere`."""
    starts, exact, stems, firsts, anywhere = found = [[], [], [], [], []]
    for e in entries:
        word = e.words[0]
        alone = re.fullmatch(r"\w+", word, re.ASCII) is not None
        phrase = len(e.words) > 1
        two = " ".join(e.words[:2] if alone else e.words[:1])
        if e.open_start or not re.match(r"\w", word, re.ASCII):
            anywhere.append(word[:FIRST])
        elif alone and not phrase and not e.open_end:
            starts.append(word[:FIRST])
            exact.append(word[:LONG])
        elif re.match(rf"[\w ]{{{FIRST}}}", two, re.ASCII):
            starts.append(two[:FIRST])
            # Where it is known to end with a word, it can be told by more bytes.
            ends = (phrase and not e.open_end) or len(e.words) > 2
            exact.append(two[: LONG if ends and re.fullmatch(r"[\w ]+", two, re.ASCII) else FIRST])
        else:
            stems.append(two[:FIRST])
        if alone and phrase:
            firsts.append(word)
    return [[start.lower().encode() for start in each] for each in found]


def _shortest_run(entries: Iterable[Entry]) -> int:
    """How many letters at least the first word has that starts a keyword; FIRST at most."""
    runs = [re.match(r"\w*", e.words[0], re.ASCII) for e in entries if not e.open_start]
    return min(FIRST, *(len(run[0]) for run in runs if run and run[0]), FIRST)


def _shortest(starts: Iterable[bytes]) -> int:
    """How many bytes of all of them can be looked up: 0 where there are none."""
    return min((len(start) for start in starts), default=0)


def _mask(size: int) -> int:
    """Of the first `size` bytes of eight, as a number with a sign."""
    return int.from_bytes(b"\xff" * size + bytes(FIRST - size), "little", signed=True)


def _folded(start: bytes) -> int:
    """The bytes as a number, folded as in walk.py."""
    return int.from_bytes(start, "little") | int.from_bytes(b" " * len(start), "little")


def _exact(start: bytes) -> int:
    return _folded(start[:FIRST]) * int(SECOND) + _folded(start[FIRST:])


def _table(keys: Iterable[int], bits: int) -> npt.NDArray[np.uint64]:
    """A table with the bits set that are the keys' hashes."""
    found = np.zeros(1 << bits, np.bool_)
    found[[((key * int(FACTOR)) & ALL_BITS) >> 64 - bits for key in keys]] = True
    return np.packbits(found, bitorder="little").view(np.uint64)


def _bounds(inside: str) -> Ints:
    """Where the ranges of a class of characters, given as its inside, start and end."""
    ends = [(ord(a), ord(b or a) + 1) for a, b in re.findall("(.)(?:-(.))?", inside, re.DOTALL)]
    return np.array(sorted(ends), np.int64).reshape(-1)
