"""The base that a student must beat: rules and majorities, without training.

Kinds by the most frequent one of train, names by runs of capitals, money and dates by the readers
of `wording` applied to everything that they can read.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence

from raydistill.answer import Answer
from raydistill.errors import AnswerError
from raydistill.fields import Value
from raydistill.task import Task
from raydistill.wording import amounts, ranges

Records = list[dict[str, Value]]
Base = Callable[[str], "Answer | AnswerError"]

_NAME = re.compile(r"(?:[A-Z][\w&.'-]*(?: (?:of|and|the|&) (?=[A-Z]))? ?)+")
_FIRST = frozenset(
    (
        *("what", "which", "who", "whom", "how", "when", "where", "why", "in", "is", "are", "was"),
        *("were", "did", "does", "do", "list", "name", "show", "the", "a", "an", "it", "this"),
        *("these", "for", "all", "on", "by"),
    )
)
_COMPANY = re.compile(
    r"\b(?:Inc|Corp|Corporation|LLC|LLP|Ltd|Limited|plc|Co|Company|Group|Bank|Partners|Holdings)\b",
    re.IGNORECASE,
)
_PERSON = re.compile(r"(?:Mr|Ms|Mrs|Dr)\. \w+")


def names(text: str) -> Records:
    """Runs of capitalised words; a company by its suffix, a person by a title, else a company."""
    out: Records = []
    for found in _NAME.finditer(text):
        words = found.group().strip().split(" ")
        if words[0].casefold() in _FIRST:
            words = words[1:]
        name = " ".join(words).strip(" .'")
        if len(name) < 2 or name.isdigit():
            continue
        person = _PERSON.fullmatch(name) and not _COMPANY.search(name)
        out.append({"name": name, "type": "person" if person else "company"})
    return out


def _money(text: str) -> Records:
    return [{"amount": number, "currency": code} for number, code in amounts.stated(text)]


def _dates(text: str) -> Records:
    return [
        {"start": start and start.isoformat(), "end": end and end.isoformat()}
        for start, end in ranges.stated(text)
    ]


_RULES: dict[str, Callable[[str], Records]] = {
    "query_entities": names,
    "query_currency": _money,
    "query_dates": _dates,
}


def base(task: Task, answers: Sequence[str]) -> Base:
    """The base of a task: its rule, or else the most frequent of `answers` (JSON, from train)."""
    rule = _RULES.get(task.name)
    if rule is None:
        usual = Counter(answers).most_common(1)
        constant = task.parse(usual[0][0]) if usual else Answer()
        return lambda text: constant

    def answered(text: str) -> Answer | AnswerError:
        try:
            return task.answer(rule(text), text)
        except AnswerError as problem:
            return problem

    return answered
