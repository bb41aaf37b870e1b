import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.answer import Answer, locate, located, occurrences
from raydistill.fields import Choice, Span

FIELDS = (Span(name="who"), Choice(name="how", choices=("well",)))


@pytest.mark.parametrize(
    ("value", "text", "places"),
    [
        ("an", "Can an ant", [4, 1, 7]),
        ("AT", "AT&T or at AT", [0, 11]),
        ("T.", "A T. B.T.", [2, 7]),
        ("$5", "$50 and $5", [8, 0]),
        ("aa", "aaa", [0, 1]),
        ("x", "", []),
        ("", "abc", []),
        ("a_b", "a_b_c a_b", [6, 0]),
    ],
)
def test_whole_words_come_before_parts_of_words(value, text, places):
    assert occurrences(value, text) == places


@settings(deadline=None)
@given(st.text(max_size=20), st.text(min_size=1, max_size=3))
def test_every_occurrence_is_found_once(text, value):
    expected = [i for i in range(len(text)) if text.startswith(value, i)]
    assert sorted(occurrences(value, text)) == expected
    place = locate(value, text)
    assert (place is None) == (value not in text)
    assert place is None or text[slice(*place)] == value


def test_spans_are_located_and_nothing_else_is():
    answer = located(
        [
            {"who": "Apple", "how": "well"},
            {"who": "pear", "how": None},
            {"who": None, "how": "well"},
        ],
        FIELDS,
        "Pineapple: Apple fares well",
    )
    assert answer.offsets == ({"who": (11, 16)}, {}, {})


def test_without_a_text_nothing_is_located():
    assert located([{"who": "Apple", "how": None}], FIELDS, None).offsets == ({},)


def test_answers_are_equal_when_their_records_are_wherever_they_were_found():
    one = Answer(({"who": "Apple"},), ({"who": (0, 5)},))
    other = Answer(({"who": "Apple"},), ({"who": (9, 14)},))
    assert one == other
    assert len({one, other}) == 1
    assert one != Answer(({"who": "Pear"},))
    assert one != "Apple"
