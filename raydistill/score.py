"""Scores: how far one answer agrees with the truth, record by record and field by field.

Records are aligned before they are counted, so an event that nobody asked for costs precision and
an event left out costs recall; a score that only asks how much of the truth was found does not see
the first. `tally` sums scores over a corpus.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import permutations
from typing import Any

from raydistill.fields import Field, Value

FLOOR = 0.5
_OPEN = frozenset({"text", "span", "amount", "edge"})
_SMALL = 3  # up to 3 x 3 records, trying every order (at most 6) is much faster than scipy

Values = Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Scored:
    """One answer against its truth; the counts are of records.

    `pairs` are (truth index, answer index); `equal` and `credit` sum over the pairs, by field.
    `omitted` records of the truth and `invented` ones of the answer have no partner; `wrong_value`
    counts pairs that are not equal in every field. `partial` is partial credit of the whole, 0..1.
    """

    truth: int
    answer: int
    pairs: tuple[tuple[int, int], ...]
    matched: int
    exact: bool
    equal: dict[str, int]
    credit: dict[str, float]
    partial: float
    omitted: int
    invented: int
    wrong_value: int
    error: str | None = None

    @property
    def precision(self) -> float:
        """The share of the answer's records that are right in every field."""
        return ratio(self.matched, self.answer, empty=self.exact)

    @property
    def recall(self) -> float:
        """The share of the truth's records that the answer has, right in every field."""
        return ratio(self.matched, self.truth, empty=self.exact)

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall; 1.0 for two answers without records."""
        return ratio(2 * self.matched, self.truth + self.answer, empty=self.exact)

    @property
    def recall_only(self) -> float:
        """Intersection over truth: blind to invented records, kept for comparison."""
        return ratio(self.matched, self.truth, empty=self.error is None)


def ratio(part: float, whole: float, *, empty: bool) -> float:
    """`part / whole`; where the whole is 0, 1.0 if that emptiness is right (`empty`), else 0.0."""
    return part / whole if whole else float(empty)


def compare(
    fields: Sequence[Field],
    truth_records: Sequence[Values],
    answer_records: Sequence[Values],
    *,
    single: bool = False,
) -> Scored:
    """The score of `answer_records` against `truth_records`, whatever their order.

    Equal records are aligned first, the rest so that the sum of their credit is greatest. Two
    records are only aligned when they speak of the same thing (see `related`), or when the task
    has exactly one record (`single`); otherwise one is omitted and the other invented.
    """
    left, right = list(range(len(truth_records))), list(range(len(answer_records)))
    pairs = _equal_pairs(fields, truth_records, answer_records, left, right)
    matched = len(pairs)
    equal = dict.fromkeys((field.name for field in fields), matched)
    credit = dict.fromkeys(equal, float(matched))
    total = float(matched)
    if left and right:
        credits = {
            (i, j): [f.credit(truth_records[i][f.name], answer_records[j][f.name]) for f in fields]
            for i in left
            for j in right
        }
        worth = {
            (i, j): _mean(fields, one)
            for (i, j), one in credits.items()
            if single or related(fields, truth_records[i], answer_records[j], one)
        }
        for i, j in _assignment(left, right, worth):
            pairs.append((i, j))
            total += worth[i, j]
            for field, one in zip(fields, credits[i, j], strict=True):
                credit[field.name] += one
                equal[field.name] += field.equal(
                    truth_records[i][field.name], answer_records[j][field.name]
                )
    truth, answer = len(truth_records), len(answer_records)
    return Scored(
        truth=truth,
        answer=answer,
        pairs=tuple(sorted(pairs)),
        matched=matched,
        exact=matched == truth == answer,
        equal=equal,
        credit=credit,
        partial=ratio(2 * total, truth + answer, empty=True),
        omitted=truth - len(pairs),
        invented=answer - len(pairs),
        wrong_value=len(pairs) - matched,
    )


def failed(fields: Sequence[Field], truth_records: Sequence[Values], code: str) -> Scored:
    """The score of an answer that did not parse: nothing right, even where the truth is empty."""
    names = [field.name for field in fields]
    return Scored(
        truth=len(truth_records),
        answer=0,
        pairs=(),
        matched=0,
        exact=False,
        equal=dict.fromkeys(names, 0),
        credit=dict.fromkeys(names, 0.0),
        partial=0.0,
        omitted=len(truth_records),
        invented=0,
        wrong_value=0,
        error=code,
    )


def related(
    fields: Sequence[Field], truth: Values, answer: Values, credits: Sequence[float]
) -> bool:
    """Whether two records speak of the same thing, so that a difference is a wrong value.

    They do when the first field is open (a text, span, amount or edge) and equal, or when the mean
    credit of the open fields that have a value on either side is above FLOOR: "dismissed_auditor,
    The Company, KPMG" and "engaged_auditor, The Company, Deloitte" share half their words and are
    two events.
    A shared choice proves nothing, so closed fields only count where no open field has a value.
    """
    first = fields[0]
    value = truth[first.name]
    if first.kind in _OPEN and value is not None and first.equal(value, answer[first.name]):
        return True
    said = [
        (field.kind in _OPEN, one)
        for field, one in zip(fields, credits, strict=True)
        if truth[field.name] is not None or answer[field.name] is not None
    ]
    evidence = [one for is_open, one in said if is_open] or [one for _, one in said]
    return bool(evidence) and sum(evidence) / len(evidence) > FLOOR


def _equal_pairs(
    fields: Sequence[Field],
    truth: Sequence[Values],
    answer: Sequence[Values],
    left: list[int],
    right: list[int],
) -> list[tuple[int, int]]:
    """Pairs of records equal in every field; they are taken out of `left` and `right`."""
    pairs: list[tuple[int, int]] = []
    for i in tuple(left):
        one = truth[i]
        for j in right:
            other = answer[j]
            if all(field.equal(one[field.name], other[field.name]) for field in fields):
                pairs.append((i, j))
                left.remove(i)
                right.remove(j)
                break
    return pairs


def _mean(fields: Sequence[Field], credits: Sequence[float]) -> float:
    weights = [field.weight for field in fields]
    return sum(w * c for w, c in zip(weights, credits, strict=True)) / sum(weights)


def _assignment(
    left: Sequence[int], right: Sequence[int], worth: Mapping[tuple[int, int], float]
) -> list[tuple[int, int]]:
    """The one-to-one pairs of greatest total worth; pairs without worth are not in it."""
    if len(left) == len(right) == 1:
        return list(worth)
    search: Callable[..., list[tuple[int, int]]] = (
        _every_order if max(len(left), len(right)) <= _SMALL else _hungarian
    )
    return [pair for pair in search(left, right, worth) if pair in worth]


def _every_order(
    left: Sequence[int], right: Sequence[int], worth: Mapping[tuple[int, int], float]
) -> list[tuple[int, int]]:
    best: list[tuple[int, int]] = []
    most = -1.0
    for order in permutations(right) if len(right) > len(left) else permutations(left):
        # zip stops at the shorter side: each order says who is paired and who is left out
        pairs = list(zip(left, order) if len(right) > len(left) else zip(order, right))  # noqa: B905
        total = sum(worth.get(pair, 0.0) for pair in pairs)
        if total > most + 1e-12:  # the first of equals, so that the result does not flicker
            best, most = pairs, total
    return best


def _hungarian(
    left: Sequence[int], right: Sequence[int], worth: Mapping[tuple[int, int], float]
) -> list[tuple[int, int]]:
    from scipy.optimize import linear_sum_assignment

    matrix = [[worth.get((i, j), 0.0) for j in right] for i in left]
    rows, columns = linear_sum_assignment(matrix, maximize=True)
    return [(left[int(r)], right[int(c)]) for r, c in zip(rows, columns, strict=True)]


@dataclass(frozen=True, slots=True)
class FieldTally:
    """One field over a corpus: `equal` values and summed credit among the `aligned` pairs."""

    equal: int
    credit: float
    aligned: int
    precision: float
    recall: float
    f1: float

    @property
    def agreement(self) -> float:
        """The share of aligned pairs in which the field's two values are equal."""
        return ratio(self.equal, self.aligned, empty=True)


@dataclass(frozen=True, slots=True)
class Tally:
    """Many scores as one: rates over all records (micro), and counts of every kind of mistake.

    `agreement` is the share of answers that are exactly the truth; `partial` and `recall_only` are
    means over answers. `confusion` counts answers by whether truth and answer have records;
    an answer that did not parse is only in `errors`, and disagrees.
    """

    answers: int
    exact: int
    truth: int
    answer: int
    matched: int
    omitted: int
    invented: int
    wrong_value: int
    agreement: float
    precision: float
    recall: float
    f1: float
    partial: float
    recall_only: float
    skip_agreement: float
    confusion: dict[str, int]
    errors: dict[str, int]
    fields: dict[str, FieldTally]

    def to_dict(self) -> dict[str, Any]:
        """The tally as JSON, each field with its agreement among aligned pairs."""
        fields = {name: {**asdict(f), "agreement": f.agreement} for name, f in self.fields.items()}
        return {**asdict(self), "fields": fields}


def tally(scores: Iterable[Scored]) -> Tally:
    """The sum of `scores`; rates of an empty corpus are 0.0."""
    counts: Counter[str] = Counter()
    means = {"partial": 0.0, "recall_only": 0.0}
    errors: Counter[str] = Counter()
    equal: Counter[str] = Counter()
    credit: dict[str, float] = {}
    confusion = dict.fromkeys(_CELLS.values(), 0)
    answers = 0
    for one in scores:
        answers += 1
        for name in _COUNTS:
            counts[name] += getattr(one, name)
        for name in means:
            means[name] += getattr(one, name)
        if one.error is None:
            confusion[_CELLS[one.truth > 0, one.answer > 0]] += 1
        else:
            errors[one.error] += 1
        for name, value in one.credit.items():
            equal[name] += one.equal[name]
            credit[name] = credit.get(name, 0.0) + value
    truth, answer = counts["truth"], counts["answer"]
    nothing = bool(answers) and not errors and not truth and not answer  # and rightly so

    def rates(part: int) -> tuple[float, float, float]:
        return (
            ratio(part, answer, empty=nothing),
            ratio(part, truth, empty=nothing),
            ratio(2 * part, truth + answer, empty=nothing),
        )

    precision, recall, f1 = rates(counts["matched"])
    aligned = counts["matched"] + counts["wrong_value"]
    agreed = confusion["both_extract"] + confusion["both_skip"]
    return Tally(
        answers=answers,
        exact=counts["exact"],
        truth=truth,
        answer=answer,
        matched=counts["matched"],
        omitted=counts["omitted"],
        invented=counts["invented"],
        wrong_value=counts["wrong_value"],
        precision=precision,
        recall=recall,
        f1=f1,
        agreement=ratio(counts["exact"], answers, empty=False),
        partial=ratio(means["partial"], answers, empty=False),
        recall_only=ratio(means["recall_only"], answers, empty=False),
        skip_agreement=ratio(agreed, answers, empty=False),
        confusion=confusion,
        errors=dict(sorted(errors.items())),
        fields={
            name: FieldTally(equal[name], one, aligned, *rates(equal[name]))
            for name, one in credit.items()
        },
    )


_COUNTS = ("exact", "truth", "answer", "matched", "omitted", "invented", "wrong_value")
_CELLS: dict[tuple[bool, bool], str] = {
    (True, True): "both_extract",
    (False, False): "both_skip",
    (True, False): "missed",
    (False, True): "spurious",
}
