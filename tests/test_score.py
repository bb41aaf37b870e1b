import json
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.answer import Answer
from raydistill.errors import AnswerError
from raydistill.fields import Choice, Number, Span
from raydistill.score import Scored, compare, failed, tally
from raydistill.tasks import FILING_EVENTS

FIELDS = FILING_EVENTS.fields
E = {
    "event_type": "dismissed_auditor", "subject": "The Company", "object": "KPMG LLP",
    "magnitude_class": "major", "timing": "definitive", "sentiment": "negative",
    "materiality": "material", "confidence": 9, "date_confidence": 10,
    "event_date": "2024-03-05",
}  # fmt: skip
F = E | {
    "event_type": "engaged_auditor", "object": "Deloitte", "magnitude_class": "moderate",
    "sentiment": "positive",
}  # fmt: skip
G = E | {
    "event_type": "declared_dividend", "subject": "Acme Corp.", "object": "$0.05 per share",
    "magnitude_class": "minor", "sentiment": "positive", "event_date": None,
}  # fmt: skip
H = E | {"event_type": "paid_penalty", "subject": None, "object": "$5.2 million"}
N = E | {"event_type": "held_annual_meeting", "subject": None, "object": None}


def _score(truth, answer):
    """The score of an answer given as records or as JSON text, as an evaluation computes it."""
    truth = FILING_EVENTS.answer(truth)
    try:
        read = FILING_EVENTS.parse(answer if isinstance(answer, str) else json.dumps(answer))
    except AnswerError as problem:
        return failed(FIELDS, truth.records, problem.code)
    return FILING_EVENTS.score(truth, read)


# name: truth, answer, exact, precision, recall, partial (hand-computed: ten fields of one weight)
TABLE = {
    "the same event": ([E], [E], True, 1, 1, 1),
    "no event on either side": ([], [], True, 1, 1, 1),
    "skip and an empty list": ([], '{"skip":true}', True, 1, 1, 1),
    "two events": ([E, F], [E, F], True, 1, 1, 1),
    "two events in the other order": ([E, F], [F, E], True, 1, 1, 1),
    "three events turned round": ([E, F, G], [G, E, F], True, 1, 1, 1),
    "five events in another order": ([E, F, G, H, N], [N, G, H, F, E], True, 1, 1, 1),
    "an extra event": ([E], [E, G], False, 1 / 2, 1, 2 / 3),
    "two extra events": ([E], [E, G, H], False, 1 / 3, 1, 1 / 2),
    "an event where there is none": ([], [E], False, 0, 0, 0),
    "three events where there is none": ([], [E, F, G], False, 0, 0, 0),
    "a missing event": ([E, F], [E], False, 1, 1 / 2, 2 / 3),
    "two missing events": ([E, F, G], [F], False, 1, 1 / 3, 1 / 2),
    "nothing found": ([E], [], False, 0, 0, 0),
    "nothing of three found": ([E, F, G], '{"skip":true}', False, 0, 0, 0),
    "another event": ([E], [G], False, 0, 0, 0),
    "the auditor's successor is another event": ([E], [F], False, 0, 0, 0),
    "one right, one other": ([E, F], [E, G], False, 1 / 2, 1 / 2, 1 / 2),
    "one right, one other, turned round": ([E, F], [G, E], False, 1 / 2, 1 / 2, 1 / 2),
    "an event said twice counts once": ([E], [E, E], True, 1, 1, 1),
    "said twice with another confidence": ([E], [E, E | {"confidence": 8}], False, 1 / 2, 1, 2 / 3),
    "two events of a type, one found": ([E, E | {"object": "BDO"}], [E], False, 1, 1 / 2, 2 / 3),
    "another magnitude": ([E], [E | {"magnitude_class": "minor"}], False, 0, 0, 0.9),
    "another timing": ([E], [E | {"timing": "historical"}], False, 0, 0, 0.9),
    "another sentiment": ([E], [E | {"sentiment": "neutral"}], False, 0, 0, 0.9),
    "another materiality": ([E], [E | {"materiality": "immaterial"}], False, 0, 0, 0.9),
    "two other choices": (
        [E], [E | {"timing": "historical", "sentiment": "neutral"}], False, 0, 0, 0.8),
    "confidence one off": ([E], [E | {"confidence": 8}], False, 0, 0, 0.9 + 0.1 * 8 / 9),
    "confidence at the other end": ([E | {"confidence": 10}], [E | {"confidence": 1}],
        False, 0, 0, 0.9),
    "date confidence five off": ([E], [E | {"date_confidence": 5}], False, 0, 0, 0.95),
    "confidence as text": ([E], [E | {"confidence": "9"}], True, 1, 1, 1),
    "confidence as a decimal": ([E], [E | {"confidence": 9.0}], True, 1, 1, 1),
    "a date without its day": ([E], [E | {"event_date": "2024-03"}], False, 0, 0, 0.9 + 0.2 / 3),
    "a year for a date": ([E], [E | {"event_date": "2024"}], False, 0, 0, 0.9 + 0.1 / 3),
    "another day": ([E], [E | {"event_date": "2024-03-06"}], False, 0, 0, 0.9 + 0.2 / 3),
    "another year, same month": ([E], [E | {"event_date": "2023-03-05"}], False, 0, 0, 0.9),
    "no date": ([E], [E | {"event_date": None}], False, 0, 0, 0.9),
    "a date where there is none": ([E | {"event_date": None}], [E], False, 0, 0, 0.9),
    "the date written out": ([E], [E | {"event_date": "March 5, 2024"}], True, 1, 1, 1),
    "the date with a time": ([E], [E | {"event_date": "2024-03-05T10:00:00"}], True, 1, 1, 1),
    "a null word for no date": ([G], [G | {"event_date": "N/A"}], True, 1, 1, 1),
    "an empty text for no subject": ([H], [H | {"subject": ""}], True, 1, 1, 1),
    "a missing key for no subject": (
        [H], [{k: v for k, v in H.items() if k != "subject"}], True, 1, 1, 1),
    "an unknown key more": ([E], [E | {"comment": "clear"}], True, 1, 1, 1),
    "no subject": ([E], [E | {"subject": None}], False, 0, 0, 0.9),
    "a subject where there is none": ([H], [H | {"subject": "we"}], False, 0, 0, 0.9),
    "the subject in lower case": ([E], [E | {"subject": "the company"}], False, 0, 0, 1),
    "the subject without its article": ([E], [E | {"subject": "Company"}], False, 0, 0, 1),
    "half of the object": ([E], [E | {"object": "KPMG"}], False, 0, 0, 0.9 + 0.2 / 3),
    "more than the object": (
        [E], [E | {"object": "KPMG LLP as auditor"}], False, 0, 0, 0.9 + 0.2 / 3),
    "another object of the same event": ([E], [E | {"object": "Deloitte"}], False, 0, 0, 0.9),
    "subject and object changed about": (
        [E], [E | {"subject": "KPMG LLP", "object": "The Company"}], False, 0, 0, 0.8),
    "a curly quote": (
        [E | {"object": "Moody’s"}], [E | {"object": "Moody's"}], False, 0, 0, 1),
    "letters beyond ASCII": (
        [E | {"object": "Société Générale 発表"}], [E | {"object": "Société Générale 発表"}],
        True, 1, 1, 1),
    "an accent lost": (
        [E | {"object": "Société Générale"}], [E | {"object": "Société Generale"}],
        False, 0, 0, 0.95),
    "an amount one digit off": ([H], [H | {"object": "$5.3 million"}], False, 0, 0, 0.95),
    "a neighbouring type": (
        [E], [E | {"event_type": "engaged_auditor"}], False, 0, 0, 0.95),
    "another type of the same words": (
        [E], [E | {"event_type": "auditor dismissed"}], False, 0, 0, 1),
    "the type in other writing": ([E], [E | {"event_type": "Dismissed Auditor"}], True, 1, 1, 1),
    "a wrong type of the same parties": (
        [E], [E | {"event_type": "paid_penalty"}], False, 0, 0, 0.9),
    "nulls alone prove nothing": ([N], [N | {"event_type": "paid_penalty"}], False, 0, 0, 0),
    "types alone can be equal": ([N], [N | {"timing": "historical"}], False, 0, 0, 0.9),
    "one wrong value, one extra": (
        [E], [E | {"timing": "historical"}, G], False, 0, 0, 2 * 0.9 / 3),
    "the better of two is the partner": (
        [E], [E | {"timing": "historical", "sentiment": "neutral"}, E | {"object": "KPMG"}],
        False, 0, 0, 2 * (0.9 + 0.2 / 3) / 3),
    "crossed partners": (
        [E, E | {"object": "BDO USA"}],
        [E | {"object": "BDO", "timing": "historical"}, E | {"confidence": 8}],
        False, 0, 0, ((0.9 + 0.1 * 8 / 9) + (0.8 + 0.2 / 3)) / 2),
    "broken JSON": ([E], '{"events": [{"event_type":', False, 0, 0, 0),
    "broken JSON for no event": ([], '{"skip": tru', False, 0, 0, 0),
    "prose": ([E], "The company dismissed its auditor.", False, 0, 0, 0),
    "a number for events": ([E], '{"events": 3}', False, 0, 0, 0),
    "a list for a subject": ([E], [E | {"subject": ["The Company"]}], False, 0, 0, 0),
    "a choice nobody offered": ([E], [E | {"timing": "soon"}], False, 0, 0, 0),
    "a confidence out of range": ([E], [E | {"confidence": 11}], False, 0, 0, 0),
    "a date that does not exist": ([E], [E | {"event_date": "2024-02-30"}], False, 0, 0, 0),
    "one bad event spoils the answer": ([E, F], [E, F | {"timing": None}], False, 0, 0, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_scores_by_hand(name):
    truth, answer, exact, precision, recall, partial = TABLE[name]
    score = _score(truth, answer)
    assert score.exact is exact
    assert score.precision == pytest.approx(precision)
    assert score.recall == pytest.approx(recall)
    assert score.partial == pytest.approx(partial)
    assert score.omitted + score.matched + score.wrong_value == score.truth
    assert score.invented + score.matched + score.wrong_value == score.answer
    harmonic = 2 * precision * recall / (precision + recall) if precision + recall else 0
    assert score.f1 == pytest.approx(harmonic)


@pytest.mark.parametrize(
    ("answer", "omitted", "invented", "wrong_value"),
    [([E, F], 0, 0, 0), ([E, F, G], 0, 1, 0), ([F], 1, 0, 0), ([E, G], 1, 1, 0), ([], 2, 0, 0),
     ([E, F | {"timing": "historical"}], 0, 0, 1), ([F | {"object": "Deloitte LLP"}, G], 1, 1, 1),
     ("{", 2, 0, 0)],
)  # fmt: skip
def test_mistakes_are_counted_by_kind(answer, omitted, invented, wrong_value):
    score = _score([E, F], answer)
    counts = (score.omitted, score.invented, score.wrong_value)
    assert counts == (omitted, invented, wrong_value)


def test_a_recall_only_score_does_not_see_an_invented_event_and_ours_falls():
    honest, inventive = _score([E], [E]), _score([E], [E, F, G, H])
    assert honest.recall_only == inventive.recall_only == 1.0
    assert inventive.precision == 0.25
    assert inventive.partial == pytest.approx(0.4)
    assert not inventive.exact
    spurious = _score([], [E])
    assert spurious.recall_only == 1.0
    assert (spurious.partial, spurious.f1) == (0.0, 0.0)
    both = tally([honest, inventive, spurious])
    assert both.recall_only == 1.0
    assert both.precision == pytest.approx(2 / 6)
    assert both.invented == 4


def test_fields_are_counted_over_aligned_pairs():
    score = _score([E, G], [E | {"timing": "historical", "object": "KPMG"}])
    assert score.pairs == ((0, 0),)
    assert score.equal["timing"] == 0
    assert score.equal["subject"] == 1
    assert score.credit["object"] == pytest.approx(2 / 3)


def test_an_answer_that_did_not_parse_is_wrong_even_where_there_is_nothing_to_find():
    score = failed(FIELDS, [], "bad_json")
    assert (score.exact, score.partial, score.f1, score.recall_only) == (False, 0.0, 0.0, 0.0)
    assert score.error == "bad_json"


def test_a_weight_moves_the_credit_of_a_pair():
    fields = (Span(name="who", weight=3.0), Choice(name="how", choices=("a", "b")))
    assert compare(fields, [{"who": "x", "how": "a"}], [{"who": "x", "how": "b"}]).partial == 0.75


def test_records_of_closed_fields_are_aligned_by_more_than_half_of_them():
    fields = (Number(name="value"), Choice(name="unit", choices=("USD", "EUR")))
    other_value = compare(fields, [{"value": "5", "unit": "USD"}], [{"value": "6", "unit": "USD"}])
    assert (other_value.omitted, other_value.invented) == (1, 1)


_words = st.sampled_from(["a b", "b c", "c", "a", None])
_record = st.builds(
    lambda kind, who, how: {"kind": kind, "who": who, "how": how},
    _words, _words, st.sampled_from(["x", "y"]),
)  # fmt: skip
_SMALL = (
    Span(name="kind"),
    Span(name="who", weight=2.0),
    Choice(name="how", choices=("x", "y")),
)


@settings(deadline=None)
@given(st.lists(_record, max_size=5), st.lists(_record, max_size=5), st.randoms())
def test_the_order_of_records_and_sides_does_not_matter(truth, answer, random):
    score = compare(_SMALL, truth, answer)
    mixed = random.sample(answer, len(answer))
    again = compare(_SMALL, truth, mixed)
    assert again.partial == pytest.approx(score.partial)
    assert (again.matched, again.exact) == (score.matched, score.exact)
    back = compare(_SMALL, answer, truth)
    assert back.partial == pytest.approx(score.partial)
    assert (back.precision, back.recall) == (score.recall, score.precision)
    assert 0.0 <= score.partial <= 1.0


@settings(deadline=None)
@given(st.lists(_record, min_size=1, max_size=4), st.lists(_record, min_size=1, max_size=4))
def test_no_other_alignment_of_what_is_not_equal_has_more_credit(truth, answer):
    for one in list(truth):  # equal records are aligned first, by definition
        if one in answer:
            truth.remove(one)
            answer.remove(one)
    short, long = sorted((truth, answer), key=len)
    best = max(
        sum(compare(_SMALL, [one], [other]).partial for one, other in zip(short, order))  # noqa: B905
        for order in permutations(long)
    )
    total = compare(_SMALL, truth, answer).partial * (len(truth) + len(answer)) / 2
    assert total == pytest.approx(best)


def _scores():
    broken = failed(FIELDS, [E], "bad_json")
    return [_score([E], [E]), _score([E, F], [E, G]), _score([], []), _score([G], []),
            _score([], [H]), _score([E], [E | {"timing": "historical"}]), broken]  # fmt: skip


def test_a_tally_sums_records_and_counts_answers():
    total = tally(_scores())
    assert (total.answers, total.exact) == (7, 2)
    assert (total.truth, total.answer, total.matched) == (6, 5, 2)
    assert (total.omitted, total.invented, total.wrong_value) == (3, 2, 1)
    assert (total.precision, total.recall) == (2 / 5, 2 / 6)
    assert total.f1 == pytest.approx(4 / 11)
    assert total.agreement == pytest.approx(2 / 7)
    assert total.partial == pytest.approx((1 + 0.5 + 1 + 0 + 0 + 0.9 + 0) / 7)
    assert total.confusion == {"both_extract": 3, "both_skip": 1, "missed": 1, "spurious": 1}
    assert total.skip_agreement == pytest.approx(4 / 7)
    assert total.errors == {"bad_json": 1}
    assert total.fields["timing"].agreement == pytest.approx(2 / 3)
    assert total.fields["subject"].precision == pytest.approx(3 / 5)
    assert total.fields["subject"].recall == pytest.approx(3 / 6)


def test_a_tally_is_json():
    written = json.loads(json.dumps(tally(_scores()).to_dict()))
    assert written["fields"]["timing"]["aligned"] == 3
    assert written["recall_only"] == pytest.approx((1 + 0.5 + 1 + 0 + 1 + 0 + 0) / 7)


def test_an_empty_corpus_has_no_rates_and_right_skips_are_perfect():
    assert tally([]).f1 == tally([]).agreement == 0.0
    skips = tally([_score([], [])] * 3)
    assert skips.agreement == skips.f1 == skips.precision == skips.skip_agreement == 1.0
    assert tally([failed(FIELDS, [], "bad_json")]).f1 == 0.0


def test_scores_can_be_compared_and_kept():
    assert _score([E], [E]) == _score([E], [dict(reversed(E.items()))])
    assert isinstance(FILING_EVENTS.score(Answer(), Answer()), Scored)
