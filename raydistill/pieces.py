"""Pieces: the tokens of a text put together from those of its words, which are remembered.

A learned tokenizer (tokenizer.py) splits a text into words before it looks at anything else, so a
word's tokens are the same wherever it stands, and sentences of filings are made of few words.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

from tokenizers import Regex, pre_tokenizers, processors
from tokenizers import Tokenizer as RawTokenizer

WORDS = r" ?\p{L}+| ?(?:19|20)\d\d(?!\d)| ?\d| ?[^\s\p{L}\d]|\s+"
# The same of ASCII text.
_ASCII = re.compile(r" ?[A-Za-z]+| ?(?:19|20)\d\d(?!\d)| ?\d| ?[^\sA-Za-z\d]|\s+", re.ASCII)
_MOST = 100_000  # words that are remembered: some 30 MB
_BEFORE = "."  # a word of its own before any other: the first one's spaces are told otherwise


@dataclass(frozen=True, slots=True)
class Piece:
    """The tokens of a word: ids, and characters (start, end) from the word's first one."""

    ids: list[int]
    spans: list[tuple[int, int]]


class Pieces:
    """The pieces of a tokenizer that splits by WORDS."""

    def __init__(self, raw: RawTokenizer) -> None:
        self.raw = raw
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
        made = self.raw.encode(_BEFORE + word, add_special_tokens=False)
        skip = len(_BEFORE)
        spans = [(start - skip, end - skip) for start, end in made.offsets[1:]]
        if len(self.known) >= _MOST:
            self.known.clear()
        piece = self.known[word] = Piece(made.ids[1:], spans)
        return piece


def pieces(raw: RawTokenizer) -> Pieces | None:
    """The pieces of a tokenizer; None of one that does more than split by WORDS, as pretrained ones
    do."""
    state = json.loads(raw.to_str())
    own = {**state, "model": state["model"]["type"]}
    wanted = {
        "normalizer": None,
        "truncation": None,
        "padding": None,
        "model": "BPE",
        "pre_tokenizer": _state(splitting()),
        "post_processor": _state(ending()),
    }
    return Pieces(raw) if all(own.get(name) == value for name, value in wanted.items()) else None


def splitting() -> Any:
    """What splits a text before its words become bytes."""
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def ending() -> Any:
    """What takes the spaces before a word out of its token's characters."""
    return processors.ByteLevel(trim_offsets=True)


def _state(part: Any) -> Any:
    return json.loads(part.__getstate__())
