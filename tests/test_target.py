import json
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raydistill.answer import Answer
from raydistill.errors import AnswerError
from raydistill.fields import Integer, Number, Span
from raydistill.target import MAX_RECORDS, NEXT, NONE, NULL, Compact, Source, place_of, whole
from raydistill.task import TARGETS, Task
from raydistill.tasks import FILING_EVENTS
from raydistill.tokenizer import Tokenizer

POSITIONS = 24
TEXTS = (
    "On March 5, 2024, The Company dismissed KPMG LLP and engaged Deloitte & Touche LLP.",
    "We repurchased 1,200,000 shares for $25.3 million; the Board “approved” it — the shares.",
    "Société Générale S.A. 発表 agreed to pay €5 million | 10% of notes ~ 2031 \\ see <null> <p3>",
    "the the the Company company Company's",
)
EVENTS = FILING_EVENTS.with_vocabulary(
    {"event_type": ["dismissed_auditor", "engaged_auditor", "repurchased_shares"]}
)


@cache
def _tokenizer():
    return Tokenizer.learn(TEXTS, _added(), vocabulary=400)


def _added():
    return Compact(EVENTS.fields, positions=POSITIONS, spell=str.split, unspell=" ".join).tokens()


@cache
def _target(kind, task=EVENTS):
    tokenizer = _tokenizer()
    return task.target(kind, positions=POSITIONS, spell=tokenizer.spell, unspell=tokenizer.unspell)


def _source(text):
    return _tokenizer().encode([text])[0].source


_unicode = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=25)
_odd = st.sampled_from(
    ['say "no"', "it's", "a|b~c\\d", "\\", "~", "~~", "a\nb\r\nc", "<null>", "</text>", "<p1><p2>",
     "\\p", "{}", "</s>", "é", "😀 x", "\u200b", "a\u2028b", "null!", "U+0301 e\u0301"]
)  # fmt: skip
_text = st.one_of(
    st.sampled_from(TEXTS),
    st.lists(st.sampled_from(TEXTS), min_size=2, max_size=4).map(" ".join),  # past the positions
    _unicode,
    st.tuples(_unicode, _odd, _unicode).map("".join),
)


@st.composite
def _spans(draw, text):
    """A null, any part of the text (whole tokens or not), or words that are not in it."""
    kind = draw(st.integers(0, 3))
    if kind == 0 or not text:
        return None
    if kind < 3:
        start = draw(st.integers(0, len(text) - 1))
        return text[start : draw(st.integers(start, min(len(text), start + 40)))]
    return draw(st.one_of(_unicode, _odd))


@st.composite
def _answers(draw):
    text = draw(_text)
    dates = st.one_of(st.none(), st.dates().map(str), st.dates().map(lambda d: str(d)[:7]))
    types = st.one_of(st.sampled_from(EVENTS.fields[0].vocabulary), st.text("ab_ é", max_size=12))
    records = [
        {
            "event_type": draw(types.map(lambda word: word.strip("_ ") or "x")),
            "subject": draw(_spans(text)),
            "object": draw(_spans(text)),
            **{
                f.name: draw(st.sampled_from(f.choices))
                for f in EVENTS.fields
                if f.kind == "choice"
            },
            "confidence": draw(st.integers(1, 10)),
            "date_confidence": draw(st.integers(0, 10)),
            "event_date": draw(st.one_of(dates, dates.map(lambda d: d and d[:4]))),
        }
        for _ in range(draw(st.integers(0, 4)))
    ]
    return EVENTS.answer(records, text), text


@pytest.mark.parametrize("kind", TARGETS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(case=_answers())
def test_every_valid_answer_survives_encode_and_decode(kind, case):
    answer, text = case
    target, source, tokenizer = _target(kind), _source(text), _tokenizer()
    tokens = target.encode(answer, source)
    read = target.decode(tokens, source)
    assert read == answer
    for record, places in zip(read.records, read.offsets, strict=True):
        assert all(text[slice(*place)] == record[name] for name, place in places.items())
    written = [tokenizer.token(one) for one in tokenizer.ids(tokens)]  # as a student writes: by id
    assert written == tokens


_pieces = st.one_of(
    st.sampled_from(_added()),
    st.sampled_from([NONE, NEXT, NULL, "<text>", "</text>", "<p0>", "<p23>", "<y2024>", "<d31>"]),
    st.integers(0, 399).map(lambda id: _tokenizer().token(id)),
    st.sampled_from(['{"', "|", "~", "\\", "Ċ", '{"events":[', "]}"]),
    st.text(max_size=4),
)


@pytest.mark.parametrize("kind", TARGETS)
@settings(max_examples=250, deadline=None)
@given(tokens=st.lists(_pieces, max_size=30), text=st.sampled_from(TEXTS))
def test_every_token_sequence_is_an_answer_or_has_a_code(kind, tokens, text):
    try:
        found = _target(kind).decode(tokens, _source(text))
    except AnswerError as problem:
        found = problem.code
    assert isinstance(found, Answer) or found.isidentifier()


@settings(max_examples=150, deadline=None)
@given(case=_answers(), data=st.data())
def test_a_damaged_answer_is_an_answer_in_standard_form_or_has_a_code(case, data):
    answer, text = case
    target, source = _target("compact"), _source(text)
    tokens = target.encode(answer, source)
    at = data.draw(st.integers(0, len(tokens) - 1))
    tokens[at : at + data.draw(st.integers(0, 2))] = data.draw(st.lists(_pieces, max_size=2))
    try:
        damaged = target.decode(tokens, source)
    except AnswerError:
        return
    again = target.decode(target.encode(damaged, source), source)
    assert again == damaged


def _event(**values):
    return {
        "event_type": "dismissed_auditor", "subject": "The Company", "object": "KPMG LLP",
        "magnitude_class": "major", "timing": "definitive", "sentiment": "negative",
        "materiality": "material", "confidence": 9, "date_confidence": 10,
        "event_date": "2024-03-05",
    } | values  # fmt: skip


def test_a_copied_event_is_thirteen_tokens():
    source = _source(TEXTS[0])
    tokens = _target("compact").encode(EVENTS.answer([_event()], TEXTS[0]), source)
    assert len(tokens) == 13
    assert tokens[0] == "<event_type=dismissed_auditor>"
    low, high = (int(token[2:-1]) for token in tokens[1:3])
    assert TEXTS[0][source.offsets[low][0] : source.offsets[high][1]] == "The Company"


@pytest.mark.parametrize(
    ("text", "pointed", "phrase"),
    [
        ("Springmount paid", "mount", "Springmount"),
        ("Springmount's plant", "mount", "Springmount"),
        ("paid $15,400,000 in cash", "400,0", "15,400,000"),
        ("the 3.75% notes", "75% notes", "3.75% notes"),
        ("in 1999, 2000 and", "1999", "1999"),
        ("Acme Corp. paid", "Acme Corp", "Acme Corp"),
    ],
)
def test_pointing_at_a_piece_of_a_word_means_the_word(text, pointed, phrase):
    at = text.index(pointed)
    start, end = whole(text, at, at + len(pointed))
    assert text[start:end] == phrase


@pytest.mark.parametrize(
    ("text", "date", "phrase"),
    [
        ("KPMG left on March 5, 2024.", "2024-03-05", "March 5, 2024"),
        ("KPMG left on 5 March 2024.", "2024-03-05", "5 March 2024"),
        ("KPMG left on 03/05/2024, we said.", "2024-03-05", "03/05/2024"),
        ("KPMG left on 2024-03-05.", "2024-03-05", "2024-03-05"),
        ("KPMG left in March 2024.", "2024-03", "March 2024"),
        ("In the first quarter of 2024 KPMG left.", "2024", "2024"),
        ("Of March 5, 2023 and March 5, 2024, the latter.", "2024-03-05", "March 5, 2024"),
        ("By March 5, 2024, it had been a year.", "2024", "2024"),
        ("KPMG left last week.", "2024-03-05", None),
    ],
)
def test_a_stated_date_is_pointed_at_and_another_is_three_tokens(text, date, phrase):
    target, source = _target("compact"), _source(text)
    tokens = target.encode(EVENTS.answer([_event(event_date=date)], text), source)
    if phrase is None:
        assert tokens[-3:] == ["<y2024>", "<m03>", "<d05>"]
    else:
        start, end = target.decode(tokens, source).offsets[0]["event_date"]
        assert text[start:end] == phrase
    assert target.decode(tokens, source).records[0]["event_date"] == date


def test_no_event_is_one_token():
    assert _target("compact").encode(Answer(), _source("x")) == [NONE]


def test_a_span_past_the_positions_or_inside_a_token_is_spelled():
    text = " ".join([TEXTS[1], TEXTS[0]])
    for value in ("KPMG LLP", "ompan"):
        answer = EVENTS.answer([_event(subject=None, object=value)], text)
        tokens = _target("compact").encode(answer, _source(text))
        assert tokens[2] == "<text>"
        read = _target("compact").decode(tokens, _source(text))
        assert text[slice(*read.offsets[0]["object"])] == value


def test_a_repeated_span_points_at_its_first_whole_word():
    source = Source("Can an an", [(0, 1), (1, 3), (4, 6), (7, 9)])
    assert place_of(Span(name="x"), "an", source, 10) == (2, 2)
    assert place_of(Span(name="x"), "an", source, 2) is None
    assert place_of(Span(name="x"), "an an", source, 2) is None
    assert place_of(Span(name="x"), "nothing", source, 4) is None


@pytest.mark.parametrize(
    ("tokens", "code"),
    [
        ([], "empty"),
        ([NONE, NONE], "unexpected_token"),
        (["<event_type=dismissed_auditor>"], "cut_short"),
        (["<text>", "a"], "cut_short"),
        (["<text>", "</text>"], "missing_value"),
        ([NULL], "missing_value"),
        (["<p0>"], "unexpected_token"),
        (["<event_type=dismissed_auditor>", "<p2>", "<p1>"], "bad_span"),
        (["<event_type=dismissed_auditor>", "<p2>", "<p999>"], "bad_span"),
        (["<event_type=dismissed_auditor>", "<p2>"], "cut_short"),
        (["<event_type=dismissed_auditor>", "<p2>", NULL], "unexpected_token"),
        (["<event_type=dismissed_auditor>", NULL, NULL, "<timing=definitive>"], "unexpected_token"),
        (["<event_type=dismissed_auditor>", NULL, NULL, "<text>", "major", "</text>"],
         "unexpected_token"),
    ],
)  # fmt: skip
def test_what_is_no_answer_has_a_code(tokens, code):
    with pytest.raises(AnswerError) as problem:
        _target("compact").decode(tokens, _source(TEXTS[0]))
    assert problem.value.code == code


@pytest.mark.parametrize(
    ("tokens", "code"),
    [
        (["<y2023>", "<m02>", "<d29>"], "bad_date"),
        (["<y2024>", "<d05>"], "unexpected_token"),
        (["<y2024>", "<m03>", "<d05>", "<d06>"], "unexpected_token"),
    ],
)
def test_a_date_that_does_not_exist_has_a_code(tokens, code):
    source, target = _source(TEXTS[0]), _target("compact")
    whole = target.encode(EVENTS.answer([_event()], TEXTS[0]), source)
    with pytest.raises(AnswerError) as problem:
        target.decode(whole[:-2] + tokens, source)
    assert problem.value.code == code


@pytest.mark.parametrize("kind", TARGETS)
def test_a_student_in_a_loop_ends_in_too_many_records_and_repeats_count_once(kind):
    source, target = _source(TEXTS[0]), _target(kind)
    events = [_event(object=f"auditor {n}") for n in range(MAX_RECORDS)]
    longest = EVENTS.answer(events, TEXTS[0])
    tokens = target.encode(longest, source)
    assert target.decode(tokens, source) == longest
    more = Answer((*longest.records, longest.records[0] | {"confidence": 1}))
    with pytest.raises(AnswerError) as problem:
        target.decode(target.encode(more, source), source)
    assert problem.value.code == "too_many_records"
    twice = Answer(longest.records[:1] * 2)
    assert target.decode(target.encode(twice, source), source).records == longest.records[:1]


@pytest.mark.parametrize("kind", TARGETS)
def test_tasks_of_one_nullable_field_tell_null_from_nothing(kind):
    task = Task(name="who", key="who", instruction="", fields=(Span(name="who"),))
    target, source = _target(kind, task), _source("a b")
    for records in ([], [{"who": None}], [{"who": "~"}], [{"who": "~~"}], [{"who": "b"}]):
        answer = task.answer(records, "a b")
        assert target.decode(target.encode(answer, source), source) == answer


@pytest.mark.parametrize("kind", TARGETS)
def test_wide_integers_and_numbers_are_spelled(kind):
    fields = (Integer(name="shares", low=-1, high=10**9), Number(name="price", nullable=True))
    task = Task(name="sale", key="sales", instruction="", fields=fields)
    target, source = _target(kind, task), _source("x")
    assert len(target.tokens()) < 100
    for records in ([{"shares": 123456, "price": "0.25"}], [{"shares": -1, "price": None}]):
        answer = task.answer(records)
        assert target.decode(target.encode(answer, source), source) == answer


def test_added_tokens_are_distinct_and_never_match_inside_text():
    assert len(set(_added())) == len(_added())
    assert not set(_tokenizer().spell("<null> <p3> <text> <timing=definitive> <none>")) & set(
        _added()
    )


SHARED = Path(__file__).parents[2] / "shared" / "teacher" / "labels.jsonl"


@pytest.mark.shared
@pytest.mark.skipif(
    not SHARED.is_file(), reason="the labelled sentences are not beside the project"
)
def test_a_real_teacher_s_answers_survive_and_most_spans_are_pointed_at():
    with SHARED.open() as lines:
        rows = [json.loads(line) for line, _ in zip(lines, range(1500))]  # noqa: B905
    tokenizer = Tokenizer.learn([row["sentence"] for row in rows], _added(), vocabulary=4000)
    target = Compact(EVENTS.fields, positions=256, spell=tokenizer.spell, unspell=tokenizer.unspell)
    spans = pointed = 0
    for row in rows:
        answer = EVENTS.answer_of(row["output"], row["sentence"])
        source = tokenizer.encode([row["sentence"]])[0].source
        tokens = target.encode(answer, source)
        assert target.decode(tokens, source) == answer
        values = [record[name] for record in answer.records for name in ("subject", "object")]
        spans += sum(value is not None for value in values)
        pointed += sum(token.startswith("<p") for token in tokens) // 2
    assert spans > 500
    assert pointed / spans > 0.9
