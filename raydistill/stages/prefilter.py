"""The first stage: drops the sentences without a keyword, so that models see part of a corpus.

What a keyword means stands in keyword.py; `reference_pattern` says it exactly, in Python's `re`,
and all ways to find rows give the same ones.

Words and phrases of ASCII are found by trie.py, where numba can be imported. What is left, and
which keyword it was (`pairs`, `hits`), is found by a scan.

The scan: hyperscan reads the joined bytes of many sentences at once and knows ASCII alone. Where
that finds too much (a letter beyond ASCII beside a word, a keyword that is not plain ASCII, a
regular expression) its matches are candidates, and the reference decides.
"""

import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import compute

from raydistill.errors import SetupError
from raydistill.stages.keyword import (
    WHITE,
    Entry,
    alternatives,
    entry,
    one_line,
    reference,
    spelled_word,
    word_class,
)
from raydistill.stages.pieces import pieces

if TYPE_CHECKING:
    from raydistill.stages.trie import Words

try:
    import hyperscan as _hyperscan
except ImportError:  # no wheel for this platform: see `_Regex`
    _hyperscan = None

hyperscan: Any = _hyperscan
pc: Any = compute  # pyarrow makes its functions at import, so a type checker cannot know them

# No byte of valid UTF-8: no keyword can match across it, and a newline in a sentence needs no care.
_BREAK = b"\xff"
# White space that is not a single space, in bytes.
_ODD_WHITE = (
    rb"[\t-\r]|  |\xc2[\x85\xa0]|\xe1\x9a\x80|\xe2\x81\x9f"
    rb"|\xe2\x80[\x80-\x8a\xa8\xa9\xaf]|\xe3\x80\x80"
)

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


class Prefilter:
    """Keeps the rows whose `text` holds a keyword, and those whose `text` is null (markers).

    Takes a table with columns `id` and `text` and any others; keeps the order and the schema.
    Pickles as its keywords; compiles (0.1 to 2 s) at the first call, and what numba compiles once
    for a machine (5 s; then 1 s to import numba and load it). One thread at a time.
    """

    def __init__(self, keywords: Sequence[str]) -> None:
        if isinstance(keywords, str) or not keywords:
            raise SetupError(f"keywords {keywords!r}", expected="a list of one keyword or more")
        self.keywords = tuple(dict.fromkeys(keywords))
        self.entries = tuple(entry(k) for k in self.keywords)
        if any(e.regex for e in self.entries):
            _ = self._parts  # a regular expression that hyperscan refuses stops the job here

    def __reduce__(self) -> tuple[object, ...]:
        return (Prefilter, (self.keywords,))

    def __call__(self, batch: pa.Table) -> pa.Table:
        return batch.filter(pc.or_(self.mask(batch["text"]), pc.is_null(batch["text"])))

    def mask(self, texts: "pa.Array | pa.ChunkedArray") -> pa.BooleanArray:
        """Whether each text holds a keyword; false for null."""
        words, scanner = self._parts
        found = words.found(texts) if words else np.zeros(len(texts), np.bool_)
        if scanner:
            for first, chunk in pieces(texts):
                found[first + scanner.rows(chunk)] = True
        return cast(pa.BooleanArray, pa.array(found))

    def pairs(self, texts: "pa.Array | pa.ChunkedArray") -> tuple[Ints, Ints]:
        """Each row and keyword number that are found together, once, in the order of the rows."""
        rows, ids = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for first, chunk in pieces(texts):
            chunk_rows, chunk_ids = self._scanner.pairs(chunk)
            rows.append(first + chunk_rows)
            ids.append(chunk_ids)
        return np.concatenate(rows), np.concatenate(ids)

    def hits(self, text: str) -> list[tuple[int, int, str]]:
        """Where keywords stand: first character, the one past the last, keyword (for display)."""
        _, ids = self.pairs(pa.array([text], pa.large_string()))
        entries = [self.entries[i] for i in ids]
        line = one_line(text)
        return sorted((*m.span(), e.keyword) for e in entries for m in e.pattern.finditer(line))

    @cached_property
    def _scanner(self) -> "_Hyperscan | _Regex":
        return _scanner(self.entries)

    @cached_property
    def _parts(self) -> "tuple[Words | None, _Hyperscan | _Regex | None]":
        """What finds the words, where something does, and what the other keywords."""
        trie = _trie()
        spoken = [e for e in self.entries if trie and trie.spoken(e)]
        if not trie or not spoken:
            return None, self._scanner
        others = [e for e in self.entries if not trie.spoken(e)]
        return trie.Words(spoken), _scanner(others) if others else None


def _trie() -> Any:
    """The module trie.py, or None where numba cannot be loaded: it takes 0.3 s, at first use."""
    try:
        from raydistill.stages import trie
    except (ImportError, OSError):  # OSError: its compiler is there, and built for another system
        return None
    return trie


def _scanner(entries: Sequence[Entry]) -> "_Hyperscan | _Regex":
    return _Hyperscan(entries) if hyperscan else _Regex(entries)


def _confirmed(entries: Sequence[Entry], chunk: Any, rows: Ints, ids: Ints) -> Bools:
    """Whether the reference finds each keyword in its row."""
    texts = chunk.take(pa.array(rows)).to_pylist()
    both = zip(texts, ids, strict=True)
    return np.array([bool(entries[i].pattern.search(one_line(t))) for t, i in both], np.bool_)


@dataclass(frozen=True)
class _Laid:
    """The texts of a chunk in one piece of memory: where each starts and ends in `body`."""

    body: Any
    starts: Ints
    ends: Ints


class _Hyperscan:
    """Finds rows and keywords in a chunk of texts, by one scan over their bytes."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        hs = hyperscan
        self.entries = entries
        # Of each entry, and of odd white space behind them. `length` holds for a plain one alone.
        self.plain = np.array([*(e.plain for e in entries), False])
        self.length = np.array([*(len(" ".join(e.words)) for e in entries), 0])
        self.closed_start = np.array([*(not e.open_start for e in entries), False])
        self.closed_end = np.array([*(not e.open_end for e in entries), False])
        # Odd white space is one more keyword (a scan of its own took a sixth of the time).
        white = [_ODD_WHITE] if any(len(e.words) > 1 for e in entries) else []
        self.words = self._database([not e.regex for e in entries], hs.HS_FLAG_CASELESS, white)
        regexes = [i for i, e in enumerate(entries) if e.regex]
        # PREFILTER: look-around, which hyperscan lacks, is let through; the reference decides.
        flags = hs.HS_FLAG_CASELESS | hs.HS_FLAG_UTF8 | hs.HS_FLAG_MULTILINE | hs.HS_FLAG_PREFILTER
        # Hyperscan 5.4 misses `b$` where it is compiled together with `^a`: each of those alone.
        anchored = [i for i in regexes if re.search(r"[\^$]", entries[i].regex)]
        groups = [{i} for i in anchored] + [{*regexes} - {*anchored}]
        self.regexes = [
            self._database([i in group for i in range(len(entries))], flags, [])
            for group in groups
            if group
        ]

    def _database(self, chosen: list[bool], flags: int, more: list[bytes]) -> Any:
        """The compiled keywords, or None where there are none; `more` is numbered behind them."""
        ids = [i for i, take in enumerate(chosen) if take]
        if not ids:
            return None
        patterns = [self.entries[i].scanned for i in ids] + more
        numbers = ids + [len(chosen) + i for i in range(len(more))]
        try:
            return _compiled(patterns, numbers, flags)
        except hyperscan.error as problem:
            index = re.search(r"index (\d+)", str(problem))
            found = self.entries[ids[int(index[1])]].keyword if index else f"of {len(ids)}"
            raise SetupError(f"keyword {found!r}: {problem}") from None

    def rows(self, chunk: Any) -> Ints:
        """The rows that hold a keyword, some of them more than once."""
        rows, ids, sure = self._candidates(chunk)
        known = np.zeros(len(chunk), np.bool_)
        known[rows[sure]] = True
        open_ = ~known[rows]
        if not open_.any():
            return rows[sure]
        more = _confirmed(self.entries, chunk, rows[open_], ids[open_])
        return np.concatenate([rows[sure], rows[open_][more]])

    def pairs(self, chunk: Any) -> tuple[Ints, Ints]:
        """The rows and the keywords found in them, each pair once, ordered."""
        rows, ids, sure = self._candidates(chunk)
        order = np.lexsort((~sure, ids, rows))  # a sure find before the others of its pair
        rows, ids, sure = rows[order], ids[order], sure[order]
        _, first = np.unique(rows * len(self.entries) + ids, return_index=True)
        rows, ids, sure = rows[first], ids[first], sure[first]
        sure[~sure] = _confirmed(self.entries, chunk, rows[~sure], ids[~sure])
        return rows[sure], ids[sure]

    def _candidates(self, chunk: Any) -> tuple[Ints, Ints, Bools]:
        """Row and keyword of each match, with repeats, and whether it needs no confirmation."""
        if not len(chunk):
            return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.bool_)
        # Arrow's own memory, with nothing between texts, was slower: in every tenth row a word ends
        # where another begins, and such rows have to be read again.
        rows, ids, sure = self._found(_joined(chunk))
        odd = np.zeros(len(chunk), np.bool_)
        odd[rows[ids == len(self.entries)]] = True
        parts = [(rows, ids, sure)]
        if odd.any():  # phrases are sought with single spaces: give such rows those
            again = np.flatnonzero(odd)
            spaced = pc.replace_substring_regex(chunk.take(pa.array(again)), f"[{WHITE}]+", " ")
            more, more_ids, more_sure = self._found(_joined(spaced))
            left = ~odd[rows]
            parts = [(rows[left], ids[left], sure[left]), (again[more], more_ids, more_sure)]
        if self.regexes:
            lines = _joined(pc.replace_substring(chunk, "\n", " "), b"\n")
            for database in self.regexes:
                stops, more_ids = _scanned(database, lines.body)
                more = np.searchsorted(lines.ends, stops)
                parts.append((more, more_ids, np.zeros(len(more), np.bool_)))
        rows, ids, sure = (np.concatenate(part) for part in zip(*parts, strict=True))
        return rows, ids, sure

    def _found(self, laid: _Laid) -> tuple[Ints, Ints, Bools]:
        """Row and keyword of each match, and whether it is surely one."""
        stops, ids = _scanned(self.words, laid.body)
        if not len(stops):
            return stops, ids, np.empty(0, np.bool_)
        rows = np.searchsorted(laid.ends, stops)
        begins = stops - self.length[ids]
        before = self.closed_start[ids] & (begins > laid.starts[rows])
        after = self.closed_end[ids] & (stops < laid.ends[rows])
        bytes_ = np.frombuffer(laid.body, np.uint8)
        letters = _letter_before(bytes_, begins, before) | _letter_after(bytes_, stops, after)
        return rows, ids, self.plain[ids] & ~letters


# What only bytes take for a word break: `né`, `én`. Of what is beyond ASCII, U+2000 to U+203F
# (quotes, dashes, spaces) and the no-break space are no letters; the reference decides the rest.
def _letter_before(bytes_: Any, at: Ints, there: Bools) -> Bools:
    """Whether what stands before each position, where something does, may be a letter."""
    maybe = there & (bytes_[np.maximum(at - 1, 0)] > 127)
    where = np.flatnonzero(maybe)
    third, second, first = (bytes_[np.maximum(at[where] - i, 0)] for i in (3, 2, 1))
    sign = (third == 0xE2) & (second == 0x80) | (second == 0xC2) & (first == 0xA0)
    maybe[where[sign]] = False
    return maybe


def _letter_after(bytes_: Any, at: Ints, there: Bools) -> Bools:
    """Whether what stands at each position, where something does, may be a letter."""
    last = len(bytes_) - 1
    maybe = there.copy()
    maybe[there] = bytes_[at[there]] > 127
    where = np.flatnonzero(maybe)
    first, second = (bytes_[np.minimum(at[where] + i, last)] for i in (0, 1))
    sign = (first == 0xE2) & (second == 0x80) | (first == 0xC2) & (second == 0xA0)
    maybe[where[sign]] = False
    return maybe


def _compiled(expressions: list[bytes], ids: Sequence[int], flags: int = 0) -> Any:
    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    database.compile(expressions=expressions, ids=ids, elements=len(ids), flags=flags)
    return database


def _joined(chunk: Any, separator: bytes = _BREAK) -> _Laid:
    """The texts with `separator` between them."""
    span, texts = pa.array([0, len(chunk)], pa.int64()), chunk.cast(pa.large_binary())
    column = pa.LargeListArray.from_arrays(span, texts)
    joined = pc.binary_join(column, pa.scalar(separator, pa.large_binary()))
    lengths = pc.binary_length(chunk).to_numpy()
    ends = np.cumsum(lengths) + np.arange(len(chunk))
    return _Laid(joined.buffers()[2], ends - lengths, ends)


def _scanned(database: Any, body: Any) -> tuple[Ints, Ints]:
    """End and keyword of every match hyperscan reports: one for each end of a match."""
    if database is None or not body:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    ends, ids = array("q"), array("q")
    end, number = ends.append, ids.append

    def matched(keyword: int, start: int, stop: int, flags: int, context: object) -> None:
        end(stop)
        number(keyword)

    database.scan(memoryview(body), match_event_handler=matched)
    return np.frombuffer(ends, np.int64), np.frombuffer(ids, np.int64)


class _Regex:
    """The same without hyperscan: RE2 for words, Python's `re` for regular expressions."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries
        self.all_words = _re2(entries)
        self.reference = reference(entries)

    def rows(self, chunk: Any) -> Ints:
        """The rows that hold a keyword."""
        found = _matches(chunk, self.all_words or "$^.")  # or nothing
        # RE2 takes these two for k and s where it merges alternatives, whatever the pattern says.
        odd = np.flatnonzero(_matches(chunk, "[\u212a\u017f]"))
        texts = chunk.take(pa.array(odd)).to_pylist()
        found[odd] = [self.reference.search(one_line(text)) is not None for text in texts]
        for number, e in enumerate(self.entries):
            if e.regex:
                left = np.flatnonzero(~found)
                found[left] = _confirmed(self.entries, chunk, left, np.full(len(left), number))
        return np.flatnonzero(found)

    def pairs(self, chunk: Any) -> tuple[Ints, Ints]:
        """The rows and the keywords found in them, each pair once, ordered."""
        every = [_Regex([e]).rows(chunk) for e in self.entries]
        rows = np.concatenate(every)
        ids = np.repeat(np.arange(len(every)), [len(r) for r in every])
        order = np.lexsort((ids, rows))
        return rows[order], ids[order]


def _matches(chunk: Any, pattern: str) -> Bools:
    return pc.match_substring_regex(chunk, pattern).to_numpy(zero_copy_only=False).copy()


def _re2(entries: Sequence[Entry]) -> str:
    """The words for RE2; it has no look-around, so what stands beside a word is matched too."""
    outside = f"[^{word_class()}]"
    starts, ends = (f"(?:^|{outside})", ""), (f"(?:$|{outside})", "")
    return "|".join(alternatives(entries, starts, ends, _spelled_re2))


def _spelled_re2(word: str) -> str:
    """A pattern for a word in both cases: RE2's own folding would make a K of the Kelvin sign."""
    return "".join(
        f"[{c.lower()}{c.upper()}]" if c.isascii() and c.isalpha() else spelled_word(c)
        for c in word
    )
