"""An answer depends on its sentence alone, whatever stands beside it in a batch."""

import random

import numpy as np
import pytest

from raydistill import engine, readers
from raydistill.errors import AnswerError
from raydistill.stages.extract import Extract
from raydistill.stages.skip import Skip

TEXT = (
    "the Company agreed to acquire Oakhaven for $12.5 million on May 3, 2019 and its directors"
    " resigned while lenders waived 41% of covenants under Item 5.02 of an amended credit facility"
)


@pytest.fixture(scope="module")
def sentences():
    """Sentences of no sense, of all lengths: a student is unsure of nearly all of them."""
    draw = random.Random(5)
    return [" ".join(draw.choices(TEXT.split(), k=1 + at % 45)) + "." for at in range(240)]


def test_a_written_answer_is_the_same_alone_and_among_others(tiny, sentences, monkeypatch):
    shape = tiny.release.manifest.shapes["extractor"]
    extract = Extract(
        tiny.release.folder / "extractor",
        tiny.dataset.task,
        target=shape["target"],
        threads=1,
        max_input=shape["max_input"],
        max_output=shape["max_output"],
    )
    encoded = extract.tokenizer.encode(sentences)
    monkeypatch.setattr(engine, "_MANY", 10**6)  # in batches of several lengths first
    together = extract.generator(encoded)
    unsure = [one for one in together if one.score < engine._SURE]
    assert len(unsure) > 50
    alone = [extract.generator([one])[0] for one in encoded]
    assert [one.tokens for one in together] == [one.tokens for one in alone]
    monkeypatch.setattr(engine, "_MANY", 1)
    many = extract.generator(encoded)
    assert [one.tokens for one in many] == [one.tokens for one in alone]
    backwards = extract.generator(encoded[::-1])[::-1]
    assert [one.tokens for one in backwards] == [one.tokens for one in alone]


def test_a_sentence_is_skipped_or_kept_alone_as_among_others(tiny, sentences):
    shape = tiny.release.manifest.shapes["skip"]
    folder = tiny.release.folder / "skip"
    skip = Skip(folder, threshold=0.5, threads=1, max_input=shape["max_input"])
    ids = skip.tokenizer.batch_ids(sentences)
    together = skip.scorer(ids)
    skip.scorer.threshold = float(np.median(together))  # half of them lie near it
    near = np.abs(together - skip.scorer.threshold) < readers._NEAR
    assert near.sum() > 5
    together = skip.scorer(ids)
    alone = np.array([skip.scorer([one])[0] for one in ids])
    nearest = np.abs(together - skip.scorer.threshold) < readers._NEAR * readers._ALIKE
    assert (together[nearest] == alone[nearest]).all()
    assert together[near] == pytest.approx(alone[near], abs=1e-4)
    assert ((together >= skip.scorer.threshold) == (alone >= skip.scorer.threshold)).all()


def test_a_student_whose_first_output_is_no_answer_gives_a_likely_one(tiny, sentences):
    shape = tiny.release.manifest.shapes["extractor"]
    extract = Extract(
        tiny.release.folder / "extractor",
        tiny.dataset.task,
        target=shape["target"],
        threads=1,
        max_input=shape["max_input"],
        max_output=shape["max_output"],
    )
    tried = extract.answers(sentences)
    extract.tries = 1
    first = extract.answers(sentences)
    failed = [isinstance(one.answer, AnswerError) for one in first]
    again = [one.again for one in tried]
    assert 0 < sum(again) <= sum(failed)
    for one, other, was in zip(tried, first, failed, strict=True):
        if one.again:
            assert was
            assert not isinstance(one.answer, AnswerError)
            assert not one.differs(other.answer)
            assert one.differs(one.answer)
        else:
            assert str(one) == str(other)
