"""The glance before the skip classifier: what it drops, and that it changes nothing else."""

import shutil
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from raydistill.stages import glance
from raydistill.stages.glance import Glance
from raydistill.stages.skip import Skip


def _rows(count: int, seed: int) -> tuple[list[list[int]], "np.ndarray"]:
    """Random sentences; the pair 7, 8 in this order makes an event."""
    dice = np.random.default_rng(seed)
    rows = [dice.integers(10, 300, dice.integers(1, 30)).tolist() for _ in range(count)]
    keep = dice.random(count) < 0.3
    for row, event in zip(rows, keep, strict=True):
        place = int(dice.integers(0, len(row) + 1))
        row[place:place] = [7, 8] if event else [8, 7]
    return rows, keep


def test_a_glance_learns_pairs_of_words_and_keeps_the_recall_asked_for():
    train, held_out = _rows(1500, 1), _rows(1000, 2)
    made, told = glance.taught(*train, *held_out, recall=0.99)
    assert told["recall"] >= 0.99
    assert told["others_kept"] < 0.05
    assert np.array_equal(made.keep(held_out[0]), made.scores(held_out[0]) >= made.threshold)


def test_a_row_scores_the_same_alone_and_among_others():
    rows, keep = _rows(300, 3)
    made = glance.learn(rows, keep)
    some: list[Sequence[int]] = [[], *rows[:20], []]
    together = made.scores(some)
    assert together.tolist() == pytest.approx([float(made.scores([row])[0]) for row in some])


def test_a_cut_loses_no_more_positives_than_said():
    scores = np.arange(1000, dtype=np.float32)
    positive = np.ones(1000, np.bool_)
    assert (scores >= glance.cut(scores, positive, recall=0.99)).mean() == pytest.approx(0.99)
    assert glance.cut(scores, positive, recall=1.0) == 0.0
    assert glance.cut(scores, ~positive, recall=0.9) == float("-inf")


def test_a_glance_is_read_back_as_it_was_written(tmp_path):
    assert Glance.load(tmp_path) is None
    made = Glance(np.linspace(-1, 1, 2**glance.BITS, dtype=np.float32), 0.25)
    made.save(tmp_path)
    back = Glance.load(tmp_path)
    assert back is not None
    assert back.threshold == 0.25
    assert np.array_equal(back.weights, made.weights)


def test_skip_gives_no_score_but_zero_to_what_the_glance_drops(tiny, tmp_path):
    folder = shutil.copytree(tiny.release.folder / "skip", tmp_path / "skip")
    shape = tiny.release.manifest.shapes["skip"]

    def stage() -> Skip:
        return Skip(folder, threshold=0.0, threads=1, max_input=shape["max_input"])

    texts = tiny.dataset.table("val")["text"].to_pylist()[:40]
    batch = pa.table({"text": pa.array([*texts, None], pa.string())})
    plain = stage().scored(batch)["skip_score"].to_pylist()
    ids = stage().tokenizer.batch_ids(texts)
    dice = np.random.default_rng(0)
    made = Glance(dice.normal(size=2**glance.BITS).astype(np.float32), 0.0)
    seen = made.keep(ids)
    assert 0 < seen.sum() < len(texts)
    made.save(folder)
    looked = stage().scored(batch)["skip_score"].to_pylist()
    assert looked[-1] is None
    expected = [one if keep else 0.0 for one, keep in zip(plain, seen, strict=False)]
    assert looked[:-1] == pytest.approx(expected, abs=0.02)  # int8 batches differ by a rounding
