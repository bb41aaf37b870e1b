"""Pieces: the tokens of a text put together from those of its words, which are remembered.

A learned tokenizer (tokenizer.py) splits a text into words before it looks at anything else, so a
word's tokens are the same wherever it stands, and sentences of filings are made of few words.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

WORDS = r" ?\p{L}+| ?(?:19|20)\d\d(?!\d)| ?\d| ?[^\s\p{L}\d]|\s+"
# The same of ASCII text.
_ASCII = re.compile(r" ?[A-Za-z]+| ?(?:19|20)\d\d(?!\d)| ?\d| ?[^\sA-Za-z\d]|\s+", re.ASCII)
_MOST, _LONGEST = 100_000, 24  # words that are remembered, and letters of them: some 50 MB
_BEFORE = "."  # a word of its own before any other: the first one's spaces are told otherwise


@dataclass(frozen=True, slots=True)
class Piece:
    """The tokens of a word: ids, and characters (start, end) from the word's first one."""

    ids: list[int]
    spans: list[tuple[int, int]]


class Pieces:
    """The pieces of a tokenizer that splits by WORDS; `ask` gives what it makes of a text."""

    def __init__(self, ask: Callable[[str], Piece]) -> None:
        self.ask = ask
        self.known: dict[str, Piece] = {}

    def of(self, text: str) -> Piece | None:
        """The tokens of a whole text; None where they must be asked of the tokenizer itself."""
        if not text.isascii() or text[:1].isspace():
            return None
        known, ids, spans = self.known, list[int](), list[tuple[int, int]]()
        at = 0
        for word in _ASCII.findall(text):
            piece = known.get(word) or self._learned(word)
            ids += piece.ids
            for start, end in piece.spans:
                spans.append((at + start, at + end))
            at += len(word)
        return Piece(ids, spans)

    def _learned(self, word: str) -> Piece:
        made, skip = self.ask(_BEFORE + word), len(_BEFORE)
        spans = [(start - skip, end - skip) for start, end in made.spans[1:]]
        piece = Piece(made.ids[1:], spans)
        if len(word) <= _LONGEST:
            if len(self.known) >= _MOST:
                self.known.clear()
            self.known[word] = piece
        return piece
