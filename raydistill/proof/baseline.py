"""A baseline of keywords and rules: what a student must beat to be worth its training.

Learned in one pass: the words that go with each value of the task's first field, and the usual
value of every other field beside it. The first span is the first
capitalised run of the sentence.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from raydistill.answer import Answer, Record
from raydistill.fields import Value
from raydistill.task import Task

_WORD = re.compile(r"[A-Za-z]{3,}")
_NAME = re.compile(r"(?:[A-Z][\w&.-]*(?: (?:of|and|the) (?=[A-Z]))? ?)+")
_SMOOTHING = 0.5


@dataclass(frozen=True, slots=True)
class Baseline:
    """Words' log-odds for each first value (None: no record), and each value's usual rest."""

    task: Task
    weights: dict[str | None, dict[str, float]]
    priors: dict[str | None, float]
    usual: dict[str, Record]

    def answer(self, text: str) -> Answer:
        """At most one record."""
        words = set(_words(text))
        best = max(self.priors, key=lambda one: self._score(one, words))
        if best is None:
            return Answer()
        record = dict(self.usual[best])
        first = next((field.name for field in self.task.fields if field.kind == "span"), None)
        if first is not None:
            found = _NAME.search(text)
            record[first] = found.group().strip() if found else None
        return self.task.answer([record], text)

    def _score(self, one: str | None, words: set[str]) -> float:
        weights = self.weights[one]
        unknown = weights[""]
        return self.priors[one] + sum(weights.get(word, unknown) for word in words)


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]


def learn(task: Task, texts: Sequence[str], answers: Sequence[Answer]) -> Baseline:
    """The baseline of a train split: naive Bayes over the words of its sentences."""
    first = task.fields[0].name
    rows: Counter[str | None] = Counter()
    seen: dict[str | None, Counter[str]] = {}
    values: dict[str, dict[str, Counter[Value]]] = {}
    for text, answer in zip(texts, answers, strict=True):
        label = str(answer.records[0][first]) if answer.records else None
        rows[label] += 1
        seen.setdefault(label, Counter()).update(set(_words(text)))
        for record in answer.records[:1]:
            for name, value in record.items():
                values.setdefault(str(label), {}).setdefault(name, Counter())[value] += 1
    weights: dict[str | None, dict[str, float]] = {}
    for label, counter in seen.items():
        whole = rows[label] + 2 * _SMOOTHING
        weights[label] = {
            word: math.log((n + _SMOOTHING) / whole) for word, n in counter.items()
        } | {"": math.log(_SMOOTHING / whole)}
    total = rows.total()
    return Baseline(
        task,
        weights,
        {label: math.log(n / total) for label, n in rows.items()},
        {
            label: {name: found.most_common(1)[0][0] for name, found in fields.items()}
            for label, fields in values.items()
        },
    )
