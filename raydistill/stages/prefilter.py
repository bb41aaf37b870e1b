"""The first stage: drops the sentences without a keyword, so that models see part of a corpus.

A keyword is a word or a phrase: whole words, any case, any white space between words.
`acqui*` is every word with that beginning, `*ware` every word with that end, `re:...` a regular
expression, in which case, `\\w`, `\\b`, `\\d` and `\\s` are those of ASCII.
`reference_pattern` says this exactly, in Python's `re`; the scan gives the same rows.

The scan: hyperscan reads the joined bytes of many sentences at once and knows ASCII alone.
Where that finds too much (a letter beyond ASCII beside a word, a keyword that is not plain ASCII,
a regular expression) its matches are candidates, and the reference decides.
"""

import re
import sys
import warnings
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import compute

from raydistill.errors import SetupError

try:
    import hyperscan as _hyperscan
except ImportError:  # no wheel for this platform: see `_Regex`
    _hyperscan = None

hyperscan: Any = _hyperscan
pc: Any = compute  # pyarrow makes its functions at import, so a type checker cannot know them

SCAN_ROWS = 16_384  # some 3 MB of text: stays in cache, and far below hyperscan's 4 GB a scan
WHITE = "\t\n\v\f\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
# No byte of valid UTF-8: no keyword can match across it, and a newline in a sentence needs no care.
_BREAK = b"\xff"
# White space that is not a single space, in bytes.
_ODD_WHITE = (
    rb"[\t-\r]|  |\xc2[\x85\xa0]|\xe1\x9a\x80|\xe2\x81\x9f"
    rb"|\xe2\x80[\x80-\x8a\xa8\xa9\xaf]|\xe3\x80\x80"
)

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Pair = tuple[str, str]


@lru_cache(maxsize=1)
def _word_class() -> str:
    """What a word is made of, as the inside of a class: `A-Za-z0-9_` and every other letter."""
    ranges: list[str] = []
    start = -1
    for code in range(128, sys.maxunicode + 2):
        letter = code <= sys.maxunicode and chr(code).isalpha()
        if letter and start < 0:
            start = code
        elif not letter and start >= 0:
            ranges.append(chr(start) if start == code - 1 else f"{chr(start)}-{chr(code - 1)}")
            start = -1
    return "A-Za-z0-9_" + "".join(ranges)


@dataclass(frozen=True)
class Entry:
    """One keyword, taken apart: `words` or `regex`; `open_start` and `open_end` are its `*`."""

    keyword: str
    words: tuple[str, ...] = ()
    regex: str = ""
    open_start: bool = False
    open_end: bool = False

    @property
    def plain(self) -> bool:
        """Whether hyperscan alone decides it in a row of ASCII."""
        if self.regex or not self.keyword.isascii():
            return False
        return re.fullmatch(r"\w\w", self.words[0][0] + self.words[-1][-1]) is not None

    @cached_property
    def pattern(self) -> "re.Pattern[str]":
        return _reference([self])

    @property
    def scanned(self) -> bytes:
        """The keyword for hyperscan: finds all the reference does, and more unless plain."""
        if self.regex:
            return self.regex.encode()
        body = " ".join("".join(_bytes_of(c) for c in _spelled(word)) for word in self.words)
        edge = r"\b" if self.plain else ""
        return (("" if self.open_start else edge) + body + ("" if self.open_end else edge)).encode()


def _spelled(word: str) -> str:
    """A pattern for a word; `re.ASCII` folds ASCII only, so other letters stand in both cases."""
    return "".join(re.escape(c) if c.isascii() else _cases(c) for c in word)


def _cases(c: str) -> str:
    cases = {x for x in (c, c.lower(), c.upper()) if len(x) == 1 and not x.isascii()}
    return "(?:" + "|".join(sorted(cases)) + ")"


def _bytes_of(c: str) -> str:
    return c if 0 < ord(c) < 128 else "".join(f"\\x{byte:02x}" for byte in c.encode())


def entry(keyword: str) -> Entry:
    """The parts of one keyword; raises SetupError, naming it, for one that cannot be read."""
    if keyword.startswith("re:"):
        return _regex_entry(keyword)
    text = keyword.strip()
    open_start, open_end = text.startswith("*"), text.endswith("*") and len(text) > 1
    words = tuple(re.split(f"[{WHITE}]+", text[open_start : len(text) - open_end].strip(" ")))
    if not all(words) or "*" in "".join(words):
        raise SetupError(
            f"keyword {keyword!r}",
            expected="words, `*` only at the start or the end, or re:<regular expression>",
            todo="write re:... for anything else",
        )
    return Entry(keyword, words, open_start=open_start, open_end=open_end)


def _regex_entry(keyword: str) -> Entry:
    regex = keyword.removeprefix("re:")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # "possible nested set": dialects differ
            pattern = re.compile(f"(?:{regex})", re.ASCII | re.IGNORECASE)
    except (re.error, Warning) as problem:
        raise SetupError(f"keyword {keyword!r}: {problem}", todo="correct it") from None
    if pattern.search(""):
        raise SetupError(f"keyword {keyword!r} matches the empty text, so it would keep every row")
    if pattern.groupindex or re.search(r"(?<!\\)(?:\\\\)*\\[AZ1-9]", regex):
        raise SetupError(
            f"keyword {keyword!r}",
            expected=r"no named groups, no back-references, ^ and $ in the place of \A and \Z",
        )
    return Entry(keyword, regex=regex)


def reference_pattern(keywords: Sequence[str]) -> "re.Pattern[str]":
    """What keywords mean, in `re`: a sentence passes if this finds something in its `one_line`."""
    return _reference([entry(k) for k in keywords])


def _reference(entries: Sequence[Entry]) -> "re.Pattern[str]":
    word = f"[{_word_class()}]"
    starts, ends = (f"(?<!{word})", f"{word}*"), (f"(?!{word})", f"{word}*")
    regexes = [f"(?:{e.regex})" for e in entries if e.regex]
    lines = [*_alternatives(entries, starts, ends, _spelled), *regexes]
    return re.compile("|".join(lines), re.ASCII | re.IGNORECASE)


def _alternatives(
    entries: Sequence[Entry], starts: Pair, ends: Pair, spelled: Callable[[str], str]
) -> list[str]:
    """A pattern for all words with the same edges; `starts` and `ends` are closed and open ones."""
    groups: dict[Pair, list[str]] = {}
    for e in entries:
        if not e.regex:
            words = f"[{WHITE}]+".join(map(spelled, e.words))
            groups.setdefault((starts[e.open_start], ends[e.open_end]), []).append(words)
    return [f"{start}(?:{'|'.join(words)}){end}" for (start, end), words in groups.items()]


def one_line(text: str) -> str:
    """The sentence with spaces for newlines: a newline is white space, and ends no sentence."""
    return text.replace("\n", " ")


class Prefilter:
    """Keeps the rows whose `text` holds a keyword, and those whose `text` is null (markers).

    Takes a table with columns `id` and `text` and any others; keeps the order and the schema.
    Pickles as its keywords; compiles (0.1 to 2 s) at the first call. One thread at a time.
    """

    def __init__(self, keywords: Sequence[str]) -> None:
        if isinstance(keywords, str) or not keywords:
            raise SetupError(f"keywords {keywords!r}", expected="a list of one keyword or more")
        self.keywords = tuple(dict.fromkeys(keywords))
        self.entries = tuple(entry(k) for k in self.keywords)
        if any(e.regex for e in self.entries):
            _ = self._scanner  # a regular expression that hyperscan refuses stops the job here

    def __reduce__(self) -> tuple[object, ...]:
        return (Prefilter, (self.keywords,))

    def __call__(self, batch: pa.Table) -> pa.Table:
        return batch.filter(pc.or_(self.mask(batch["text"]), pc.is_null(batch["text"])))

    def mask(self, texts: "pa.Array | pa.ChunkedArray") -> pa.BooleanArray:
        """Whether each text holds a keyword; false for null."""
        found = np.zeros(len(texts), dtype=np.bool_)
        for first, chunk in _chunks(texts):
            found[first + self._scanner.rows(chunk)] = True
        return cast(pa.BooleanArray, pa.array(found))

    def pairs(self, texts: "pa.Array | pa.ChunkedArray") -> tuple[Ints, Ints]:
        """Each row and keyword number that are found together, once, in the order of the rows."""
        rows, ids = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for first, chunk in _chunks(texts):
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
        return _Hyperscan(self.entries) if hyperscan else _Regex(self.entries)


def _chunks(texts: "pa.Array | pa.ChunkedArray") -> Iterator[tuple[int, Any]]:
    """The number of its first row, and a piece of SCAN_ROWS texts at most, without nulls."""
    first = 0
    for part in texts.chunks if isinstance(texts, pa.ChunkedArray) else [texts]:
        for start in range(0, len(part), SCAN_ROWS):
            piece = pc.fill_null(part.slice(start, SCAN_ROWS).cast(pa.large_string()), "")
            yield first + start, piece
        first += len(part)


def _confirmed(entries: Sequence[Entry], chunk: Any, rows: Ints, ids: Ints) -> Bools:
    """Whether the reference finds each keyword in its row."""
    texts = chunk.take(pa.array(rows)).to_pylist()
    both = zip(texts, ids, strict=True)
    return np.array([bool(entries[i].pattern.search(one_line(t))) for t, i in both], np.bool_)


class _Hyperscan:
    """Finds rows and keywords in a chunk of texts, by scans over its joined bytes."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        hs, letter = hyperscan, _letter_bytes()
        self.entries = entries
        self.plain = np.array([e.plain for e in entries])
        beside = rf"\w(?:{letter})", rf"(?:{letter})[\x80-\xbf]{{0,2}}\w"
        self.letters = _compiled([pattern.encode() for pattern in beside], [0, 1])
        phrases = any(len(e.words) > 1 for e in entries)
        self.white = _compiled([_ODD_WHITE], [0]) if phrases else None
        self.words = self._database([not e.regex for e in entries], hs.HS_FLAG_CASELESS)
        # PREFILTER: look-around, which hyperscan lacks, is let through; the reference decides.
        flags = hs.HS_FLAG_CASELESS | hs.HS_FLAG_UTF8 | hs.HS_FLAG_MULTILINE | hs.HS_FLAG_PREFILTER
        self.regexes = self._database([bool(e.regex) for e in entries], flags)

    def _database(self, chosen: list[bool], flags: int) -> Any:
        """The compiled keywords, or None where there are none."""
        ids = [i for i, take in enumerate(chosen) if take]
        if not ids:
            return None
        try:
            return _compiled([self.entries[i].scanned for i in ids], ids, flags)
        except hyperscan.error as problem:
            index = re.search(r"index (\d+)", str(problem))
            found = self.entries[ids[int(index[1])]].keyword if index else f"of {len(ids)}"
            raise SetupError(f"keyword {found!r}: {problem}") from None

    def rows(self, chunk: Any) -> Ints:
        """The rows that hold a keyword, some of them more than once."""
        rows, ids, sure = self._candidates(chunk)
        open_ = ~(sure | np.isin(rows, rows[sure]))
        if not open_.any():
            return rows[sure]
        more = _confirmed(self.entries, chunk, rows[open_], ids[open_])
        return np.concatenate([rows[sure], rows[open_][more]])

    def pairs(self, chunk: Any) -> tuple[Ints, Ints]:
        """The rows and the keywords found in them, each pair once, ordered."""
        rows, ids, sure = self._candidates(chunk)
        _, first = np.unique(rows * len(self.entries) + ids, return_index=True)
        rows, ids, sure = rows[first], ids[first], sure[first]
        sure[~sure] = _confirmed(self.entries, chunk, rows[~sure], ids[~sure])
        return rows[sure], ids[sure]

    def _candidates(self, chunk: Any) -> tuple[Ints, Ints, Bools]:
        """Row and keyword of each match, with repeats, and whether it needs no confirmation."""
        joined = _joined(chunk)
        rows, ids = _scanned(self.words, joined)
        odd = np.unique(_scanned(self.white, joined)[0])
        if len(odd):  # phrases are sought with single spaces: give such rows those, and scan again
            spaced = pc.replace_substring_regex(chunk.take(pa.array(odd)), f"[{WHITE}]+", " ")
            more_rows, more_ids = _scanned(self.words, _joined(spaced))
            rows, ids = np.concatenate([rows, odd[more_rows]]), np.concatenate([ids, more_ids])
        if self.regexes is not None:
            lines = pc.replace_substring(chunk, "\n", " ")
            more_rows, more_ids = _scanned(self.regexes, _joined(lines, b"\n"))
            rows, ids = np.concatenate([rows, more_rows]), np.concatenate([ids, more_ids])
        return rows, ids, self.plain[ids] & ~self._beside_letter(chunk, rows)

    def _beside_letter(self, chunk: Any, rows: Ints) -> Bools:
        """Whether the row of each match has what only bytes take for a word break: `né`, `én`."""
        beside = np.zeros(len(chunk), np.bool_)
        beside[rows] = True
        ascii_ = pc.string_is_ascii(chunk.filter(pa.array(beside))).to_numpy(zero_copy_only=False)
        hit = np.flatnonzero(beside)[~ascii_]
        found, _ = _scanned(self.letters, _joined(chunk.take(pa.array(hit))))
        beside[:] = False
        beside[hit[found]] = True
        return beside[rows]


@lru_cache(maxsize=1)
def _letter_bytes() -> str:
    """A pattern for the first two bytes of every letter beyond ASCII (and of a few symbols)."""
    seconds: dict[str, set[str]] = {}
    for letter in filter(str.isalpha, map(chr, range(128, sys.maxunicode + 1))):
        first, second = (f"\\x{byte:02x}" for byte in letter.encode()[:2])
        seconds.setdefault(first, set()).add(second)
    return "|".join(f"{first}[{''.join(sorted(s))}]" for first, s in seconds.items())


def _compiled(expressions: list[bytes], ids: Sequence[int], flags: int = 0) -> Any:
    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    database.compile(expressions=expressions, ids=ids, elements=len(ids), flags=flags)
    return database


def _joined(chunk: Any, separator: bytes = _BREAK) -> tuple[Any, Ints]:
    """The texts as one buffer, and where each ends in it."""
    span, texts = pa.array([0, len(chunk)], pa.int64()), chunk.cast(pa.large_binary())
    column = pa.LargeListArray.from_arrays(span, texts)
    joined = pc.binary_join(column, pa.scalar(separator, pa.large_binary()))
    ends = np.cumsum(pc.binary_length(chunk).to_numpy()) + np.arange(len(chunk))
    return joined.buffers()[2], ends


def _scanned(database: Any, joined: tuple[Any, Ints]) -> tuple[Ints, Ints]:
    """Row and keyword of every match hyperscan reports: one for each end of a match."""
    body, row_ends = joined
    if database is None or not len(row_ends):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    ends, ids = array("q"), array("q")
    end, number = ends.append, ids.append

    def matched(keyword: int, start: int, stop: int, flags: int, context: object) -> None:
        end(stop)
        number(keyword)

    database.scan(memoryview(body), match_event_handler=matched)
    return np.searchsorted(row_ends, np.frombuffer(ends, np.int64)), np.frombuffer(ids, np.int64)


class _Regex:
    """The same without hyperscan: RE2 for words, Python's `re` for regular expressions."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries
        self.all_words = _re2(entries)
        self.reference = _reference(entries)

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
    outside = f"[^{_word_class()}]"
    starts, ends = (f"(?:^|{outside})", ""), (f"(?:$|{outside})", "")
    return "|".join(_alternatives(entries, starts, ends, _spelled_re2))


def _spelled_re2(word: str) -> str:
    """A pattern for a word in both cases: RE2's own folding would make a K of the Kelvin sign."""
    return "".join(
        f"[{c.lower()}{c.upper()}]" if c.isascii() and c.isalpha() else _spelled(c) for c in word
    )
