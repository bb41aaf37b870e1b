"""Places of a pointer student: answers as labels, and likeliest answers of logits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raydistill.answer import Answer
from raydistill.choosing import answers
from raydistill.errors import AnswerError, SetupError
from raydistill.fields import Amount, Choice, Date, Span, Text
from raydistill.slots import IGNORE, Slots, slots_of
from raydistill.target import NONE, decoded
from raydistill.task import Task
from raydistill.tokenizer import Tokenizer

TEXT = (
    "On March 5, 2024, The Company dismissed KPMG LLP and engaged Deloitte & Touche LLP for"
    " $2.5 million, after talks in 2023 and on April 1, 2024."
)
TASK = Task(
    name="events",
    key="events",
    instruction="List the events.",
    fields=(
        Text(name="event_type", vocabulary=("dismissed", "engaged")),
        Span(name="subject"),
        Choice(name="timing", choices=("past", "future")),
        Amount(name="amount", nullable=True),
        Date(name="day"),
    ),
)
TOKENIZER = Tokenizer.learn([TEXT], [], vocabulary=400)
SOURCE = TOKENIZER.encode([TEXT])[0].source
TARGET = TASK.target("compact", positions=96, spell=TOKENIZER.spell, unspell=TOKENIZER.unspell)
SLOTS = slots_of(TARGET, 3)


def _logits(labels: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Logits of a student that is sure of these labels."""
    classes = np.zeros((SLOTS.count, SLOTS.end.classes), np.float32)
    points = np.zeros((SLOTS.count, SLOTS.end.points, len(SOURCE.offsets)), np.float32)
    for slot, row in enumerate(np.array(labels).reshape(SLOTS.count, -1)):
        if row[0] != IGNORE:
            classes[slot, row[0]] = 20
        for number, head in enumerate(SLOTS.heads):
            if row[1 + number] != IGNORE:
                classes[slot, head.start + row[1 + number]] = 20
        for number, at in enumerate(row[1 + len(SLOTS.heads) :]):
            if at != IGNORE:
                points[slot, number, at] = 20
    return classes, points


def _chosen(classes, points):
    return answers(SLOTS, classes[None], points[None], [SOURCE])[0]


_phrases = st.sampled_from(["The Company", "KPMG LLP", "Deloitte & Touche LLP", "talks", None])
_records = st.lists(
    st.fixed_dictionaries(
        {
            "event_type": st.sampled_from(["dismissed", "engaged"]),
            "subject": _phrases,
            "timing": st.sampled_from(["past", "future"]),
            "amount": st.sampled_from([None, "2500000"]),
            "day": st.sampled_from([None, "2024-03-05", "2023", "2024-04-01"]),
        }
    ),
    max_size=3,
)


@given(_records)
def test_an_answer_survives_its_labels(records):
    answer = TASK.answer(records, TEXT)
    tokens = TARGET.encode(answer, SOURCE)
    chosen = _chosen(*_logits(SLOTS.labels(tokens)))
    assert chosen.tokens == tokens
    assert chosen.score == pytest.approx(0.0, abs=1e-3)
    assert chosen.margin > 5
    assert TARGET.decode(chosen.tokens, SOURCE) == answer


@given(st.integers(0, 2**32 - 1))
def test_any_logits_are_an_answer_or_its_error(seed):
    draw = np.random.default_rng(seed)
    classes = draw.normal(size=(SLOTS.count, SLOTS.end.classes)).astype(np.float32)
    points = draw.normal(size=(SLOTS.count, SLOTS.end.points, 40)).astype(np.float32)
    chosen = _chosen(classes, points)
    assert isinstance(decoded(TARGET, chosen.tokens, SOURCE), Answer | AnswerError)
    assert chosen.score <= 0 <= chosen.margin


def test_what_can_only_be_spelled_is_not_taught():
    known, unknown = (
        {"event_type": kind, "subject": name, "timing": "past", "amount": None, "day": None}
        for kind, name in (("dismissed", "KPMG LLP"), ("renamed", "Oakhaven"))
    )
    tokens = TARGET.encode(TASK.answer([unknown, known], TEXT), SOURCE)
    first, second, third = np.array(SLOTS.labels(tokens)).reshape(3, -1)
    assert first[0] == 1
    assert list(first[1:3]) == [IGNORE, IGNORE]  # neither a type nor a name that it could choose
    assert first[3] != IGNORE
    assert IGNORE not in second[:4]
    assert list(third) == [0] + [IGNORE] * (SLOTS.width - 1)


def test_a_date_is_pointed_at_only_where_one_can_be_read():
    """The pointers alone would say "dismissed KPMG": no date, so the likeliest date is taken."""
    labels = SLOTS.labels(TARGET.encode(TASK.answer([_event(day="2023")], TEXT), SOURCE))
    classes, points = _logits(labels)
    head = SLOTS.heads[-1]
    wrong = TEXT.index("dismissed")
    at = next(i for i, (start, _) in enumerate(SOURCE.offsets) if start >= wrong)
    points[0, head.point, at] = points[0, head.point + 1, at + 1] = 40
    said = TARGET.decode(_chosen(classes, points).tokens, SOURCE)
    assert said.records[0]["day"] == "2023"


def _event(**values):
    one = {"event_type": "engaged", "subject": None, "timing": "past", "amount": None, "day": None}
    return one | values


def test_more_records_than_places_are_taught_as_far_as_there_are_places():
    records = [_event(day=day) for day in ("2023", "2024-03-05", "2024-04-01", None)]
    tokens = TARGET.encode(TASK.answer(records, TEXT), SOURCE)
    assert np.array(SLOTS.labels(tokens)).reshape(3, -1)[:, 0].tolist() == [1, 1, 1]


def test_no_records_are_none():
    assert _chosen(*_logits(SLOTS.labels([NONE]))).tokens == [NONE]


def test_a_task_of_one_record_has_one_place():
    single = Task(**{name: getattr(TASK, name) for name in ("name", "key", "instruction")},
                  fields=TASK.fields, single=True)  # fmt: skip
    target = single.target("compact", positions=9, spell=list, unspell="".join)
    assert slots_of(target, 3).count == 1


def test_only_the_compact_target_has_places():
    with pytest.raises(SetupError, match="target=compact"):
        slots_of(TASK.target("json", positions=9, spell=list, unspell="".join), 3)
    plain = Task(name="t", key="t", instruction="", fields=(Text(name="note"),))
    with pytest.raises(SetupError, match="the field note"):
        slots_of(plain.target("compact", positions=9, spell=list, unspell="".join), 3)
    with pytest.raises(SetupError, match="at least 1"):
        Slots(TARGET, 0)


def test_logits_that_are_no_numbers_are_no_phrase():
    labels = SLOTS.labels(TARGET.encode(TASK.answer([_event(subject="The Company")], TEXT), SOURCE))
    classes, points = _logits(labels)
    points[:] = -np.inf
    chosen = _chosen(classes, points)
    assert not [token for token in chosen.tokens if token.startswith("<p")]
    assert isinstance(decoded(TARGET, chosen.tokens, SOURCE), Answer)


def test_a_span_of_a_long_sentence_is_no_longer_than_it_may_be():
    text = "word " * 90
    source = TOKENIZER.encode([text])[0].source
    labels = SLOTS.labels(TARGET.encode(TASK.answer([_event(subject="The Company")], TEXT), SOURCE))
    classes, _ = _logits(labels)
    points = np.zeros((SLOTS.count, SLOTS.end.points, len(source.offsets)), np.float32)
    head = SLOTS.heads[1]
    points[0, head.point, 2] = points[0, head.point + 1, 80] = 50
    points[0, head.point + 1, 30] = 10
    tokens = answers(SLOTS, classes[None], points[None], [source])[0].tokens
    assert tokens[1:3] == ["<p2>", "<p30>"]


_SPAN = Task(name="one", key="one", instruction="Say.", fields=(Span(name="span"),))
_ONE = slots_of(
    _SPAN.target("compact", positions=96, spell=TOKENIZER.spell, unspell=TOKENIZER.unspell), 1
)


@given(
    st.lists(
        st.tuples(st.floats(-60, 60, width=32), st.floats(-60, 60, width=32)),
        min_size=1,
        max_size=len(SOURCE.offsets),
    )
)
def test_a_span_is_the_likeliest_of_all_pairs(logits):
    points = np.array(logits, np.float32).T[None, None]
    classes = np.zeros((1, 1, _ONE.end.classes), np.float32)
    classes[..., 1] = classes[..., -1] = 500  # a record, and its span is pointed at
    chosen = answers(_ONE, classes, points, [SOURCE])[0]
    first, last = points[0, 0].astype(np.float64)
    size = len(first)
    pairs = {(a, b): first[a] + last[b] for a in range(size) for b in range(a, size)}
    ordered = sorted(pairs.values(), reverse=True)
    start, end = (int(token[2:-1]) for token in chosen.tokens)
    assert pairs[start, end] == pytest.approx(ordered[0], abs=1e-4)
    total = np.logaddexp.reduce(ordered)
    assert chosen.score == pytest.approx(ordered[0] - total, abs=1e-3)
    assert size == 1 or chosen.margin == pytest.approx(ordered[0] - ordered[1], abs=1e-3)


def test_a_span_is_the_same_beside_a_longer_sentence():
    random = np.random.default_rng(3)
    sources = [
        TOKENIZER.encode([text])[0].source for text in ("", "one", "KPMG LLP left.", "word " * 90)
    ]
    most = max(len(source.offsets) for source in sources)
    points = random.normal(size=(len(sources), 1, 2, most)).astype(np.float32)
    classes = np.zeros((len(sources), 1, _ONE.end.classes), np.float32)
    classes[..., 1] = classes[..., -1] = 500
    together = answers(_ONE, classes, points, sources)
    for at, source in enumerate(sources):
        size = max(1, len(source.offsets))
        alone = answers(_ONE, classes[at : at + 1], points[at : at + 1, ..., :size], [source])
        assert (alone[0].tokens, alone[0].score) == (together[at].tokens, together[at].score)
