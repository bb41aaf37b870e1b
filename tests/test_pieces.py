"""Texts put together of remembered words: the tokens that the tokenizer itself gives them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as RawTokenizer
from tokenizers import models, pre_tokenizers

from raydistill import pieces
from raydistill.tokenizer import Tokenizer

TEXT = (
    "On March 5, 2019 the Company's lenders waived 41% of $1,250.75 million (19999) in Item 5.02."
)
TOKENIZER = Tokenizer.learn([TEXT], ["<none>"], vocabulary=330)
ASCII = st.text(st.characters(max_codepoint=127), max_size=40)
LIKE = st.lists(st.sampled_from([*TEXT.split(), " ", "  ", "\n\t", "2019", "<none>"]), max_size=12)


def _assert_as_asked(text):
    asked = TOKENIZER.raw.encode(text, add_special_tokens=False)
    (found,) = TOKENIZER.encode([text])
    assert (found.ids, found.source.offsets) == (asked.ids, asked.offsets)
    assert found.tokens == asked.tokens
    assert TOKENIZER.batch_ids([text]) == [asked.ids]


@given(ASCII | st.text(max_size=20) | LIKE.map(" ".join) | LIKE.map("".join))
def test_tokens_are_those_of_the_tokenizer_itself(text):
    _assert_as_asked(text)


def test_texts_of_both_kinds_keep_their_order():
    texts = [TEXT, "Börse 2019", "", " begins with a space", TEXT.upper()]
    found = [one.ids for one in TOKENIZER.encode(texts)]
    assert found == [TOKENIZER.raw.encode(text, add_special_tokens=False).ids for text in texts]
    assert found == TOKENIZER.batch_ids(texts)


def test_words_are_remembered_and_forgotten_again(monkeypatch):
    monkeypatch.setattr(pieces, "_MOST", 5)
    fresh = Tokenizer(TOKENIZER.raw)
    (found,) = fresh.encode([TEXT])
    assert found.ids == TOKENIZER.raw.encode(TEXT, add_special_tokens=False).ids
    assert fresh.pieces is not None
    assert 0 < len(fresh.pieces.known) <= 5
    fresh.encode(["x" * 5000])
    assert "x" * 5000 not in fresh.pieces.known


@pytest.mark.parametrize("split", [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel()])
def test_a_tokenizer_that_splits_otherwise_has_no_pieces(split):
    raw = RawTokenizer(models.BPE(vocab={"a": 0}, merges=[]))
    raw.pre_tokenizer = split
    other = Tokenizer(raw)
    assert other.encode(["a a"])[0].ids == raw.encode("a a").ids
    assert other.pieces is None
