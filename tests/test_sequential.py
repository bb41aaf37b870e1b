import numpy as np
import pytest

from raydistill.proof.sequential import ConfidenceSequence, Side


def _watched(random, rate, bar, *, rows=4000, batch=200):
    """The side found and the rows it took, looking after every batch."""
    sequence = ConfidenceSequence(0.05, marks=[bar])
    while sequence.count < rows and sequence.side(bar) is Side.unknown:
        sequence.add((random.random(batch) < rate).astype(float))
    return sequence.side(bar), sequence.count


def test_a_clear_case_is_decided_early_and_rightly():
    random = np.random.default_rng(1)
    assert _watched(random, 0.99, 0.95)[0] is Side.above
    side, rows = _watched(random, 0.85, 0.95)
    assert side is Side.below
    assert rows < 1000


def test_it_covers_the_truth_at_every_look_in_at_least_95_of_100_runs():
    random = np.random.default_rng(2)
    missed = 0
    for _ in range(100):
        sequence = ConfidenceSequence(0.05)
        ever = False
        for _ in range(20):
            sequence.add((random.random(50) < 0.9).astype(float))
            ever |= not sequence.low <= 0.9 <= sequence.high
        missed += ever
    assert missed <= 5


def test_a_rate_at_the_bar_stays_undecided():
    random = np.random.default_rng(3)
    assert _watched(random, 0.95, 0.95)[0] is Side.unknown


def test_a_small_rate_is_told_from_a_small_bar():
    random = np.random.default_rng(4)
    assert _watched(random, 0.0005, 0.005)[0] is Side.below
    assert _watched(random, 0.03, 0.005)[0] is Side.above


def test_the_interval_only_narrows():
    random = np.random.default_rng(5)
    sequence = ConfidenceSequence(0.05)
    low, high = sequence.low, sequence.high
    assert (low, high) == (0.0, 1.0)
    for _ in range(10):
        sequence.add(random.random(100))
        assert low <= sequence.low <= sequence.high <= high
        low, high = sequence.low, sequence.high
    assert sequence.mean == pytest.approx(0.5, abs=0.05)
