import json
import math

import numpy as np
import pytest

from raydistill.calibration import LEAST, Calibration, binned, halves, judged
from raydistill.errors import SetupError
from raydistill.proof.calibration import dial


def _answers(seed, count, *, sharpness=0.5):
    """Answers of a student too sure of itself: log-probabilities, tokens, whether they agree."""
    random = np.random.default_rng(seed)
    odds = random.normal(3, 2, count)
    scores = -np.log1p(np.exp(-odds))
    tokens = random.integers(4, 40, count)
    truth = 1 / (1 + np.exp(-(sharpness * odds - 0.5)))
    agreed = random.random(count) < truth
    return scores, tokens.tolist(), agreed, truth, (np.arange(count) // 10).tolist()


@pytest.mark.parametrize(("count", "kind"), [(600, "platt"), (6000, None)])
def test_an_overconfident_student_is_brought_to_the_truth(count, kind):
    scores, tokens, agreed, truth, groups = _answers(1, count)
    made = Calibration.of(scores, tokens, agreed.tolist(), groups)
    assert made is not None
    assert kind in (made.kind, None)
    found = made.probability(scores, tokens)
    assert np.abs(found - truth).mean() < 0.05
    assert np.abs(np.exp(scores) - truth).mean() > 0.15
    assert made.judged["brier"] < made.judged["brier_of_rate"]
    assert made.judged["ece"] < 0.04 + made.judged["ece_of_chance"]


def test_a_bend_that_no_logistic_curve_has_is_followed_by_steps():
    scores, tokens, _, _, groups = _answers(2, 8000)
    sure = np.exp(scores) > 0.97
    random = np.random.default_rng(3)
    agreed = random.random(8000) < np.where(sure, 0.9, 0.4)
    made = Calibration.of(scores, tokens, agreed.tolist(), groups)
    assert made is not None
    assert made.kind == "isotonic"
    found = made.probability(scores, tokens)
    assert found[sure].mean() == pytest.approx(0.9, abs=0.03)
    assert found[~sure].mean() == pytest.approx(0.4, abs=0.03)


def test_a_map_is_plain_json_and_the_same_again():
    scores, tokens, agreed, _, groups = _answers(4, 5000)
    made = Calibration.of(scores, tokens, agreed.tolist(), groups)
    again = Calibration(json.loads(json.dumps(made.spec())))
    assert np.array_equal(again.probability(scores, tokens), made.probability(scores, tokens))
    assert again.judged == made.judged
    assert again.judged["answers"] + again.spec()["answers"] == 5000


def test_surer_answers_of_one_length_are_never_less_probable():
    scores, tokens, agreed, _, groups = _answers(5, 5000)
    made = Calibration.of(scores, tokens, agreed.tolist(), groups)
    line = made.probability(np.linspace(-20, 0.0, 500), [15] * 500)
    assert (np.diff(line) >= 0).all()
    assert ((line > 0) & (line < 1)).all()


def test_certainty_that_says_nothing_gives_the_mean_rate():
    scores, tokens, agreed, _, groups = _answers(6, 900, sharpness=-0.5)
    made = Calibration.of(scores, tokens, agreed.tolist(), groups)
    line = made.probability([-5.0, -0.01], [10, 10])
    assert line[0] == line[1]


def test_companies_lie_in_one_half_and_halves_are_about_equal():
    groups = ["a"] * 50 + ["b"] * 30 + ["c"] * 25 + ["d"] * 5
    first = halves(groups)
    assert all(len(set(first[np.array(groups) == g].tolist())) == 1 for g in "abcd")
    assert abs(int(first.sum()) - 55) <= 5
    assert halves(["one"] * 4).tolist() == [True, False, True, False]


def test_too_few_answers_or_only_right_ones_are_not_calibrated():
    scores, tokens, agreed, _, groups = _answers(7, 2 * LEAST - 10)
    assert Calibration.of(scores, tokens, agreed.tolist(), groups) is None
    assert Calibration.of([], [], [], []) is None
    scores, tokens, agreed, _, groups = _answers(7, 500)
    assert Calibration.of(scores, tokens, [True] * 500, groups) is None


def test_an_error_of_calibration_is_told_from_chance():
    random = np.random.default_rng(8)
    probability = random.random(3000)
    honest = judged(probability, (random.random(3000) < probability).astype(float))
    assert honest["ece"] < 3 * honest["ece_of_chance"]
    off = judged(probability, (random.random(3000) < probability**2).astype(float))
    assert off["ece"] == pytest.approx(1 / 6, abs=0.02)  # the mean of p - p²
    assert sum(one["answers"] for one in off["bins"]) == 3000


def test_bins_of_equal_count_state_their_intervals():
    bins = binned(np.linspace(0, 1, 100), np.repeat([0.0, 1.0], 50), bins=4)
    assert [one["answers"] for one in bins] == [25] * 4
    assert [one["agreed"] for one in bins] == [0, 0, 1, 1]
    assert all(one["low"] <= one["agreed"] <= one["high"] for one in bins)


def test_the_abstain_dial_buys_agreement_with_questions_to_the_teacher():
    probability, agreed = [0.9, 0.2, 0.8, 0.4], [True, False, True, False]
    made = dial(probability, agreed, student=1.0, question=10.0)
    first = made["curve"][0]
    assert first == {"below": 0.2, "asked": 0, "kept": 0.5, "agreement": 0.5, "cost": 1.0}
    half = next(one for one in made["settings"] if one["below"] == 0.5)
    assert half == {"below": 0.5, "asked": 0.5, "kept": 1.0, "agreement": 1.0, "cost": 6.0}
    assert dial([], [], student=1.0, question=1.0) == {"curve": [], "settings": []}


def test_a_map_that_was_tampered_with_is_a_wrong_setup():
    with pytest.raises(SetupError, match="calibration cannot be read"):
        Calibration({"kind": "platt", "weights": [1.0], "bias": 0.0})
    with pytest.raises(SetupError, match="calibration cannot be read"):
        Calibration({"kind": "platt"})


def test_a_release_states_its_recall_and_gives_each_answer_a_probability(tiny):
    from raydistill.pipeline import Cascade
    from raydistill.proof.judge import sentences

    recall = tiny.release.manifest.metrics["recall"]
    assert recall["prefilter"]["value"] >= recall["end_to_end"]["value"]
    assert recall["end_to_end"]["low"] < recall["end_to_end"]["value"]
    spec = tiny.release.manifest.extra["calibration"]
    rows = tiny.dataset.table("test").slice(0, 300)
    out = Cascade(tiny.release, threads=1)(sentences(rows)).to_pylist()
    assert spec["judged"]["answers"] >= LEAST
    answered = [row for row in out if row["answer"] is not None]
    assert all(0 < row["agreement_probability"] < 1 for row in answered)
    assert all(row["agreement_probability"] is None for row in out if row["answer"] is None)
    assert not math.isclose(
        min(row["agreement_probability"] for row in answered),
        max(row["agreement_probability"] for row in answered),
    )
