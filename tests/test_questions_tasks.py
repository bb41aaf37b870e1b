"""The four tasks of questions: one JSON form each, a compact target there and back, and a score."""

import pytest

from raydistill.answer import Answer
from raydistill.errors import AnswerError
from raydistill.tasks import QUESTIONS, TASKS
from raydistill.tokenizer import Tokenizer
from raydistill.wording import ranges

QUESTION = (
    "[2019-07-04] Which deals above $2 billion did Brightwater Energy close in Austin last quarter?"
)
ANSWERS = {
    "query_kind": '{"kind":"list"}',
    "query_entities": '{"entities":[{"name":"Brightwater Energy","type":"company"},'
    '{"name":"Austin","type":"place"}]}',
    "query_currency": '{"amounts":[{"amount":"2000000000","currency":"USD"}]}',
    "query_dates": '{"ranges":[{"start":"2019-04-01","end":"2019-07-01"}]}',
}


def _written(task, text):
    target = TASKS[task].target("compact", positions=64, spell=list, unspell="".join)
    added = target.tokens()
    tokenizer = Tokenizer.learn([text], added, vocabulary=300)
    target = TASKS[task].target(
        "compact", positions=64, spell=tokenizer.spell, unspell=tokenizer.unspell
    )
    return target, tokenizer.encode([text])[0].source


@pytest.mark.parametrize("task", [task.name for task in QUESTIONS])
def test_an_answer_in_the_one_json_form_survives_the_compact_target(task):
    answer = TASKS[task].parse(ANSWERS[task], QUESTION)
    assert TASKS[task].render(answer) == ANSWERS[task]
    target, source = _written(task, QUESTION)
    assert target.decode(target.encode(answer, source), source) == answer


def test_money_and_dates_that_the_question_states_are_pointed_at_not_spelled():
    for task, tokens in (("query_currency", 3), ("query_dates", 4)):
        target, source = _written(task, QUESTION)
        written = target.encode(TASKS[task].parse(ANSWERS[task], QUESTION), source)
        assert len(written) == tokens, written


def test_a_range_no_rule_reads_is_written_as_year_month_and_day():
    text = ranges.asked("What changed in the quarter before that?", ranges.date(2020, 5, 1))
    answer = TASKS["query_dates"].answer([{"start": "2019-10-01", "end": "2020-01-01"}], text)
    target, source = _written("query_dates", text)
    written = target.encode(answer, source)
    assert written == ["<y2019>", "<m10>", "<d01>", "<y2020>", "<m01>", "<d01>"]
    assert target.decode(written, source) == answer


def test_pointing_at_a_part_of_a_phrase_means_the_phrase():
    text = "[2019-07-04] Did Acme grow from May to October 2018?"
    target, source = _written("query_dates", text)
    words = {text[start:end]: at for at, (start, end) in enumerate(source.offsets)}
    low, high = words["to"], words["to"]
    pointed = [f"<p{low}>", f"<p{high}>"]
    (record,) = target.decode([*pointed, *pointed], source).records
    assert record == {"start": "2018-05-01", "end": "2018-10-01"}


def test_pointing_at_words_that_are_no_range_is_an_error_with_a_code():
    target, source = _written("query_dates", QUESTION)
    with pytest.raises(AnswerError, match="bad_date"):
        target.decode(["<p7>", "<p7>", "<p7>", "<p7>"], source)


def test_an_amount_nobody_stated_costs_precision_and_not_the_recall_score():
    task = TASKS["query_currency"]
    truth = task.parse(ANSWERS["query_currency"])
    more = task.parse(
        '{"amounts":[{"amount":"2e9","currency":"USD"},{"amount":5,"currency":"EUR"}]}'
    )
    score = task.score(truth, more)
    assert (score.precision, score.recall, score.recall_only) == (0.5, 1.0, 1.0)
    assert score.f1 == pytest.approx(2 / 3)


def test_the_right_amount_in_the_wrong_currency_has_partial_credit():
    task = TASKS["query_currency"]
    truth = task.parse(ANSWERS["query_currency"])
    score = task.score(truth, task.answer([{"amount": "2,000,000,000", "currency": "EUR"}]))
    assert (score.matched, score.wrong_value, score.partial) == (0, 1, 0.5)


def test_a_range_with_one_right_edge_is_aligned_and_earns_the_parts_it_has_right():
    task = TASKS["query_dates"]
    truth = task.answer([{"start": "2019-04-01", "end": "2019-07-01"}])
    score = task.score(truth, task.answer([{"start": "2019-04-01", "end": "2019-10-01"}]))
    assert score.wrong_value == 1
    assert score.partial == pytest.approx((1 + 1 / 3) / 2)


def test_a_question_has_exactly_one_kind():
    task = TASKS["query_kind"]
    assert task.parse('{"kind": "LOOKUP"}').records == ({"kind": "lookup"},)
    for wrong in ('{"kind": "poem"}', "{}", "[]"):
        with pytest.raises(AnswerError):
            task.parse(wrong)


@pytest.mark.parametrize("tokens", [["<none>"], ["<kind=list>", "<next>", "<kind=count>"]])
def test_a_student_that_gives_no_kind_or_two_has_given_no_answer(tokens):
    target, source = _written("query_kind", QUESTION)
    with pytest.raises(AnswerError, match="wrong_count"):
        target.decode(tokens, source)


def test_nothing_named_is_an_empty_list_in_every_list_task():
    for task in QUESTIONS[1:]:
        assert task.parse(task.render(Answer())) == Answer()
        assert "skip" not in task.render(Answer())
