from datetime import date, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.errors import AnswerError, SetupError
from raydistill.fields import (
    KINDS,
    Choice,
    Date,
    Integer,
    Number,
    Span,
    Text,
    field,
    overlap,
    with_vocabulary,
)

TEXT = "The Company  dismissed “KPMG LLP” on March 5, 2024, with effect from the 1st; it is done."
FIELDS = {
    "text": Text(name="text"),
    "snake": Text(name="snake", snake=True, vocabulary=("dismissed_auditor",)),
    "span": Span(name="span"),
    "choice": Choice(name="choice", choices=("minor", "Major", "none"), nullable=True),
    "integer": Integer(name="integer", low=1, high=10),
    "number": Number(name="number"),
    "date": Date(name="date"),
}


@pytest.mark.parametrize(
    ("kind", "written", "standard"),
    [
        ("text", "  a  phrase\tof words ", "a phrase of words"),
        ("text", 12, "12"),
        ("snake", "Dismissed Auditor", "dismissed_auditor"),
        ("snake", "__Dismissed-auditor! ", "dismissed_auditor"),
        ("snake", "Straße gesperrt", "strasse_gesperrt"),
        ("span", "The Company", "The Company"),
        ("span", "the company", "The Company"),
        ("span", "the company dismissed", "The Company  dismissed"),
        ("span", '"KPMG LLP"', "“KPMG LLP”"),
        ("span", "IT", "it"),
        ("span", "ON march 5", "on March 5"),
        ("span", "Ernst  &\nYoung", "Ernst & Young"),
        ("span", "n/a", None),
        ("span", "NULL", None),
        ("span", "not  specified", None),
        ("choice", " MAJOR ", "Major"),
        ("choice", "None", "none"),
        ("choice", None, None),
        ("choice", "unknown", None),
        ("integer", "8", 8),
        ("integer", 8.0, 8),
        ("integer", "8/10", 8),
        ("integer", " +7 ", 7),
        ("number", "$1,250,000.00", "1250000"),
        ("number", "-€ 0.50", "-0.5"),
        ("number", 1e21, "1000000000000000000000"),
        ("number", "123456789012345678901234567890.10", "123456789012345678901234567890.1"),
        ("number", "-0.00", "0"),
        ("date", "2024-03-05", "2024-03-05"),
        ("date", "2024-3-5", "2024-03-05"),
        ("date", "2024-03", "2024-03"),
        ("date", 2024, "2024"),
        ("date", "2024-03-05T12:30:00Z", "2024-03-05"),
        ("date", "2024-03-00", "2024-03"),
        ("date", "2024-XX-XX", "2024"),
        ("date", "20240305", "2024-03-05"),
        ("date", "2024/03/05", "2024-03-05"),
        ("date", "03/05/2024", "2024-03-05"),
        ("date", "March 5, 2024", "2024-03-05"),
        ("date", "march 5th, 2024.", "2024-03-05"),
        ("date", "Tuesday, March 5, 2024", "2024-03-05"),
        ("date", "5th of March 2024", "2024-03-05"),
        ("date", "Sept. 5, 2024", "2024-09-05"),
        ("date", "5-Mar-2024", "2024-03-05"),
        ("date", "Mar. 2024", "2024-03"),
        ("date", "March, 2024", "2024-03"),
        ("date", "03/2024", "2024-03"),
        ("date", date(2024, 3, 5), "2024-03-05"),
        ("date", datetime(2024, 3, 5, 9), "2024-03-05"),
        ("date", "N/A", None),
    ],
)
def test_values_come_to_their_standard_form(kind, written, standard):
    assert FIELDS[kind].normalise(written, TEXT) == standard


@pytest.mark.parametrize(
    ("kind", "written", "code"),
    [
        ("text", None, "missing_value"),
        ("text", "", "missing_value"),
        ("snake", "!!!", "missing_value"),
        ("snake", "none.", "missing_value"),
        ("text", ["a"], "wrong_type"),
        ("text", True, "wrong_type"),
        ("span", {"text": "a"}, "wrong_type"),
        ("span", "a\0b", "bad_text"),
        ("span", "a\ud800b", "bad_text"),
        ("choice", "huge", "unknown_choice"),
        ("choice", True, "wrong_type"),
        ("integer", "high", "not_a_number"),
        ("integer", "8.5", "not_a_number"),
        ("integer", "1/2", "not_a_number"),
        ("integer", 11, "out_of_range"),
        ("integer", 0, "out_of_range"),
        ("integer", None, "missing_value"),
        ("number", "twelve", "not_a_number"),
        ("number", "NaN", "out_of_range"),
        ("number", "1e400", "out_of_range"),
        ("date", "2024-02-30", "bad_date"),
        ("date", "2024-13", "bad_date"),
        ("date", "2024-00-05", "bad_date"),
        ("date", "0000", "bad_date"),
        ("date", "202412", "bad_date"),
        ("date", "next week", "bad_date"),
        ("date", "Q3 2024", "bad_date"),
    ],
)
def test_values_that_cannot_be_saved_have_a_code(kind, written, code):
    with pytest.raises(AnswerError) as problem:
        FIELDS[kind].normalise(written, TEXT)
    assert problem.value.code == code


def test_a_span_keeps_the_words_that_are_not_in_the_text():
    assert Span(name="s").normalise("Deloitte & Touche", TEXT) == "Deloitte & Touche"


def test_a_span_is_not_found_inside_another_word():
    assert Span(name="s").normalise("IT", "with profit") == "IT"


_scalars = st.one_of(
    st.none(),
    st.integers(),
    st.floats(),
    st.text(max_size=30),
    st.sampled_from(TEXT.split()).map(str.upper),
    st.dates(min_value=date(1, 1, 1)).map(lambda d: d.strftime("%B %d, %Y")),
    st.dates().map(str),
    st.decimals(allow_nan=False).map(str),
    st.sampled_from(["none.", " n/a ", "N A", "-", "--", "not  specified", "0E+50", "000", "1_0"]),
)


@pytest.mark.parametrize("kind", sorted(FIELDS))
@settings(max_examples=200, deadline=None)
@given(value=_scalars, text=st.one_of(st.none(), st.just(TEXT), st.text(max_size=20)))
def test_normalising_twice_changes_nothing(kind, value, text):
    one = FIELDS[kind]
    try:
        standard = one.normalise(value, text)
    except AnswerError:
        return
    if standard is None and not one.nullable:
        raise AssertionError("null in a field that allows none")
    assert one.normalise(standard, text) == standard
    assert one.normalise(standard) == standard  # as a target reads it back, without the text
    assert one.credit(standard, standard) == 1.0


@settings(deadline=None)
@given(st.text(max_size=30), st.text(max_size=30))
def test_overlap_is_symmetric_and_between_0_and_1(one, other):
    assert 0.0 <= overlap(one, other) <= 1.0
    assert overlap(one, other) == pytest.approx(overlap(other, one))
    assert overlap(one, one) == 1.0


@pytest.mark.parametrize(
    ("kind", "truth", "answer", "credit"),
    [
        ("span", "The Company", "the company", 1.0),
        ("span", "the Board of Directors", "Board of Directors", 1.0),
        ("span", "KPMG LLP", "KPMG", 2 / 3),
        ("span", "KPMG LLP", "Deloitte", 0.0),
        ("span", "Moody’s", "Moody's", 1.0),
        ("span", "$5.2 million", "$5.3 million", 0.5),
        ("span", "—", "-", 0.0),
        ("span", None, "KPMG", 0.0),
        ("span", None, None, 1.0),
        ("snake", "entered_credit_agreement", "entered_agreement", 0.8),
        ("choice", "minor", "Major", 0.0),
        ("integer", 10, 8, 7 / 9),
        ("integer", 1, 10, 0.0),
        ("number", "5", "5.1", 0.0),
        ("date", "2024-03-05", "2024-03", 2 / 3),
        ("date", "2024-03-05", "2024-04-05", 1 / 3),
        ("date", "2024-03-05", "2023-03-05", 0.0),
    ],
)
def test_credit_of_a_pair(kind, truth, answer, credit):
    assert FIELDS[kind].credit(truth, answer) == pytest.approx(credit)
    assert FIELDS[kind].credit(answer, truth) == pytest.approx(credit)
    assert FIELDS[kind].equal(truth, answer) is (truth == answer)


@pytest.mark.parametrize("kind", sorted(FIELDS))
def test_a_field_survives_its_own_spec(kind):
    one = FIELDS[kind]
    assert field({**one.spec()}) == one
    listed = {k: list(v) if isinstance(v, tuple) else v for k, v in one.spec().items()}
    assert field(listed) == one


def test_a_wrong_field_spec_stops_with_what_to_do():
    with pytest.raises(SetupError, match=r"kind 'colour'.*is unknown(?s:.*)integer"):
        field({"kind": "colour", "name": "c"})
    with pytest.raises(SetupError, match="correct task"):
        field({"kind": "text", "name": "t", "choices": ["a"]})
    assert set(KINDS) == {
        *("text", "span", "choice", "integer", "number", "amount", "date", "edge"),
    }


def test_a_vocabulary_changes_nothing_else():
    one = Text(name="t", snake=True, weight=2.0)
    assert with_vocabulary(one, ("a",)) == Text(name="t", snake=True, weight=2.0, vocabulary=("a",))


_PIECES = (
    "March 5, 2024", "2024-03-05", "2024", "12345678", "Sept. 30th, 2021,", "in", "3/4/2020", "May",
    "1999/1/2", "5", "30th September, 1999", "a2024b", "x", "-12-31", "$15,400", "(2019)", "٢٠٢٤",
)  # fmt: skip


@settings(max_examples=300)
@given(st.lists(st.sampled_from(_PIECES), max_size=8), st.sampled_from(["", " ", "  "]))
def test_dates_are_found_wherever_they_stand(pieces, between):
    """A text between two years is searched whole; the same text alone only near its digits."""
    text, date = between.join(pieces), FIELDS["date"]
    filler = "word " * 12
    whole = f"2001 {filler}{text} {filler}2002"
    before, inner = len(f"2001 {filler}"), set(date.mentions(text))
    found = {(a - before, b - before) for a, b in date.mentions(whole)}
    ends = {(-before, 4 - before), (len(whole) - 4 - before, len(whole) - before)}
    assert found - ends == inner
