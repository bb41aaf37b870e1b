"""Keywords: what one may be, and what it means, in Python's `re`.

A keyword is a word or a phrase: whole words, any case, any white space between words.
`acqui*` is every word with that beginning, `*ware` every word with that end, `re:...` a regular
expression, in which case, `\\w`, `\\b`, `\\d` and `\\s` are those of ASCII.
"""

import re
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from raydistill.errors import SetupError

WHITE = "\t\n\v\f\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"

Pair = tuple[str, str]


@lru_cache(maxsize=1)
def word_class() -> str:
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
        return reference([self])

    @property
    def scanned(self) -> bytes:
        """The keyword for hyperscan: finds all the reference does, and more unless plain."""
        if self.regex:
            return self.regex.encode()
        body = " ".join("".join(_bytes_of(c) for c in spelled_word(word)) for word in self.words)
        edge = r"\b" if self.plain else ""
        return (("" if self.open_start else edge) + body + ("" if self.open_end else edge)).encode()


def spelled_word(word: str) -> str:
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
    return reference([entry(k) for k in keywords])


def reference(entries: Sequence[Entry]) -> "re.Pattern[str]":
    word = f"[{word_class()}]"
    starts, ends = (f"(?<!{word})", f"{word}*"), (f"(?!{word})", f"{word}*")
    regexes = [f"(?:{e.regex})" for e in entries if e.regex]
    lines = [*alternatives(entries, starts, ends, spelled_word), *regexes]
    return re.compile("|".join(lines), re.ASCII | re.IGNORECASE)


def alternatives(
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
