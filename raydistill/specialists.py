"""Specialists: several students of one release, each for some values of the task's first field.

The skip classifier then has a class for nothing and one for each specialist, in their order. It
says who is asked; what they say is joined to one answer.
"""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from raydistill.answer import Answer, Offsets, Record
from raydistill.errors import AnswerError, SetupError
from raydistill.target import MAX_RECORDS
from raydistill.task import Task

Said = TypeVar("Said")

_LISTED = 8  # values in a message


@dataclass(frozen=True, slots=True)
class Specialists:
    """The values of `field` that each answers for, by name; one without values has the rest."""

    field: str
    values: dict[str, tuple[str, ...]]

    @classmethod
    def of(cls, task: Task, values: Mapping[str, Sequence[str]]) -> "Specialists":
        """The specialists of a task. Raises SetupError unless each value belongs to one of them."""
        made = cls(task.fields[0].name, {name: tuple(some) for name, some in values.items()})
        odd = [name for name in values if not (name.isascii() and name.isidentifier())]
        rest = [name for name, some in values.items() if not some]
        named = [value for some in values.values() for value in some]
        twice = sorted({value for value in named if named.count(value) > 1})
        wrong = (
            f"only {len(values)} of them" if len(values) < 2
            else f"the names {_listed(odd)}" if odd
            else f"a task of one record, {task.name}" if task.single
            else f"{_listed(rest)}: each has all other values" if len(rest) > 1
            else f"{_listed(twice)}: of two specialists" if twice
            else ""
        )  # fmt: skip
        if wrong:
            raise SetupError(
                f"specialists: {wrong}",
                expected=f"two or more names, each value of {made.field} under one of them",
                todo="correct specialists=, as in docs/students.md",
            )
        refuse_unknown(task, named, "specialists")
        made._refuse_orphans([] if rest else known(task))
        return made

    def _refuse_orphans(self, values: Iterable[object]) -> None:
        orphans = [str(one) for one in values if self.owner(one) is None]
        if orphans:
            raise SetupError(
                f"no specialist answers for {_listed(orphans)}",
                expected=f"each value of {self.field} under one of {', '.join(self.values)}",
                todo="add them, or a specialist without values, as rest: []; it has all others",
            )

    @property
    def names(self) -> list[str]:
        """Their names, in the order of the classifier's classes behind nothing."""
        return list(self.values)

    def owner(self, value: object) -> str | None:
        """Who answers for a value of the field."""
        for name, some in self.values.items():
            if value in some:
                return name
        return next((name for name, some in self.values.items() if not some), None)

    def classes(self, answer: Answer) -> list[int]:
        """The classes of a sentence with this answer: 0 alone is nothing.

        Raises SetupError on a value that nobody answers for.
        """
        values = [record[self.field] for record in answer.records]
        self._refuse_orphans(values)
        owners = {self.owner(value) for value in values}
        return [at for at, name in enumerate(self.values, 1) if name in owners] or [0]

    def routes(self, shares: NDArray[np.floating], threshold: float) -> list[list[str]]:
        """Who is asked about sentences of these shares, by name; see `asked`."""
        asked = self.asked(shares, threshold)
        return [[name for name, yes in zip(self.values, row, strict=True) if yes] for row in asked]

    @staticmethod
    def asked(shares: NDArray[np.floating], threshold: float) -> NDArray[np.bool_]:
        """Who is asked (sentences, specialists), by the shares (sentences, classes) of classes.

        That is whose class is the most likely one but nothing, and whose share is at `threshold`.
        """
        events = shares[:, 1:]
        asked = events >= threshold
        asked[np.arange(len(events)), events.argmax(1)] = True
        return asked

    def said(
        self,
        texts: Sequence[str],
        routes: Sequence[Sequence[str]],
        ask: Mapping[str, Callable[[list[str]], Sequence[Said]]],
    ) -> list[dict[str, Said]]:
        """What those whom `routes` names say of each text, by name; one call of `ask` for each."""
        out: list[dict[str, Said]] = [{} for _ in texts]
        for name in self.values:
            rows = [at for at, names in enumerate(routes) if name in names]
            if not rows:
                continue
            for at, one in zip(rows, ask[name]([texts[at] for at in rows]), strict=True):
                out[at][name] = one
        return out

    def joined(self, said: Mapping[str, Answer | AnswerError]) -> Answer | AnswerError:
        """One answer of those of each who was asked, or the first error among them.

        A record of a value whose own specialist was asked, too, is that one's word alone.
        """
        records: list[Record] = []
        offsets: list[Offsets] = []
        for name, answer in said.items():
            if isinstance(answer, AnswerError):
                return answer
            for record, places in zip(answer.records, answer.offsets, strict=True):
                owner = self.owner(record[self.field])
                if record not in records and (owner == name or owner not in said):
                    records.append(record)
                    offsets.append(places)
        if len(records) > MAX_RECORDS:
            return AnswerError("too_many_records", f"{len(records)}, more than {MAX_RECORDS}")
        return Answer(tuple(records), tuple(offsets))


def known(task: Task) -> tuple[str, ...]:
    """The values of the first field that have a token of their own; all of them for choices."""
    spec = task.fields[0].spec()
    return tuple(spec.get("vocabulary") or spec.get("choices") or ())


def refuse_unknown(task: Task, values: Sequence[str], what: str) -> None:
    """Raises SetupError where the task's first field has none of these values."""
    names = known(task)
    strange = [one for one in values if names and one not in names]
    if strange:
        near = [n for one in strange for n in difflib.get_close_matches(one, names, n=2)]
        raise SetupError(
            f"{what}={', '.join(strange)}: the dataset's {task.fields[0].name} has none of these",
            expected=f"did you mean {', '.join(near)}?" if near else "frequent values of build",
            todo=f"correct {what}=",
        )


def _listed(values: Sequence[str]) -> str:
    more = len(values) - _LISTED
    return ", ".join(values[:_LISTED]) + (f" and {more} more" if more > 0 else "")
