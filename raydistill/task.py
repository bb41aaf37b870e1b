"""Task: the one object that owns what a student is taught, what is parsed and what is counted.

A task is its fields, its prompt, its JSON form and its score, frozen. Building, training, stages
and evaluation ask the same Task, so they cannot drift; its fingerprint travels with every dataset,
student and release.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from raydistill import fields as kinds
from raydistill.answer import Answer, Record, located
from raydistill.errors import AnswerError, SetupError
from raydistill.fields import Field, Text
from raydistill.score import Scored, compare
from raydistill.target import MAX_RECORDS, Compact, Single, Spell, Target, Unspell
from raydistill.text_target import JsonTarget, LiteralTarget

TARGETS = ("compact", "literal", "json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Fields in order, and how an answer of them is written as JSON.

    `key` holds the records in the JSON form; `skip=True` writes an answer without records as
    `{"skip": true}` instead of an empty list; `single=True` means exactly one record, written
    as one object.
    """

    name: str
    fields: tuple[Field, ...]
    key: str
    instruction: str
    skip: bool = False
    single: bool = False

    def __post_init__(self) -> None:
        names = [field.name for field in self.fields]
        if not names or len(set(names)) != len(names):
            raise SetupError(f"task {self.name}: fields {names}", expected="one name a field")
        # They become names of tables and columns, and a release brings its task along.
        odd = [one for one in (self.key, *names) if not (one.isascii() and one.isidentifier())]
        if odd:
            raise SetupError(
                f"task {self.name}: {odd} as key or field", expected="letters, digits, underscores"
            )

    def prompt(self, text: str) -> str:
        """What a large model (or a pretrained decoder) is asked."""
        return f"{self.instruction}\n\nText: {text}\nAnswer:"

    def target(self, kind: str, *, positions: int, spell: Spell, unspell: Unspell) -> Target:
        """How answers are written for a student: `compact`, `literal` or `json`."""
        made: Target
        if kind == "compact":
            made = Compact(self.fields, positions=positions, spell=spell, unspell=unspell)
        elif kind == "literal":
            made = LiteralTarget(self.fields, spell=spell, unspell=unspell)
        elif kind == "json":
            made = JsonTarget(self.render, self.parse, spell=spell, unspell=unspell)
        else:
            raise SetupError(
                f"target {kind!r}", expected=" | ".join(TARGETS), todo="correct target="
            )
        return Single(made) if self.single else made

    def answer(self, records: Sequence[Mapping[str, Any]], text: str | None = None) -> Answer:
        """The standard answer of loosely written records. Raises AnswerError.

        Unknown keys are ignored; a missing key is null. Two equal records are one.
        """
        standard: list[Record] = []
        for record in records:
            if not isinstance(record, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise AnswerError("wrong_type", f"a record is {type(record).__name__}")
            one: Record = {
                field.name: field.normalise(record.get(field.name), text) for field in self.fields
            }
            if one not in standard:
                standard.append(one)
        if len(standard) > MAX_RECORDS:
            raise AnswerError("too_many_records", f"{len(standard)}, more than {MAX_RECORDS}")
        if self.single and len(standard) != 1:
            raise AnswerError("wrong_count", f"{len(standard)} records instead of one")
        return located(standard, self.fields, text)

    def answer_of(self, value: Any, text: str | None = None) -> Answer:
        """The standard answer of a parsed JSON value in the task's form. Raises AnswerError."""
        if self.single and isinstance(value, dict):
            return self.answer([value], text)
        if isinstance(value, dict):
            if value.get("skip") is True:
                if value.get(self.key):
                    raise AnswerError("contradictory_skip", f"skip and {self.key}")
                return Answer()
            value = value.get(self.key)
        if not isinstance(value, list):
            raise AnswerError("wrong_shape", f"no list under {self.key!r}")
        return self.answer(value, text)

    def parse(self, answer: str, text: str | None = None) -> Answer:
        """The answer of a strict JSON text. Raises AnswerError with a code."""
        try:
            value = json.loads(answer)
        except (ValueError, RecursionError) as problem:
            raise AnswerError("bad_json", str(problem)[:120]) from None
        return self.answer_of(value, text)

    def value(self, answer: Answer) -> Any:
        """The answer as a JSON value in the task's one form."""
        if self.single and answer.records:
            return dict(answer.records[0])
        if not answer.records and self.skip:
            return {"skip": True}
        return {self.key: [dict(record) for record in answer.records]}

    def render(self, answer: Answer) -> str:
        """The answer as JSON text in the task's one form: fields in order, no spaces to spare."""
        return json.dumps(self.value(answer), ensure_ascii=False, separators=(",", ":"))

    def records(self, rendered: str) -> list[Record]:
        """The records of what `render` wrote, which are in standard form already."""
        value = json.loads(rendered)
        return [value] if self.single else value.get(self.key, [])

    def score(self, truth: Answer, answer: Answer) -> Scored:
        """How far `answer` agrees with `truth`."""
        return compare(self.fields, truth.records, answer.records, single=self.single)

    def spec(self) -> dict[str, Any]:
        """The task as JSON; `task(spec)` gives it back."""
        return {
            "name": self.name,
            "key": self.key,
            "instruction": self.instruction,
            "skip": self.skip,
            "single": self.single,
            "fields": [field.spec() for field in self.fields],
        }

    @property
    def fingerprint(self) -> str:
        """16 hex digits over everything in `spec()`, learned vocabularies too."""
        return _digest(self.spec())

    @property
    def shape(self) -> str:
        """16 hex digits over the fields without learned vocabularies: equal shapes compare."""
        spec = self.spec()
        parts = [{k: v for k, v in f.items() if k != "vocabulary"} for f in spec["fields"]]
        return _digest([spec["name"], spec["key"], spec["skip"], spec["single"], parts])

    def with_vocabulary(self, heads: Mapping[str, Sequence[str]]) -> "Task":
        """The task with these frequent values as single tokens, by field name."""
        fields = tuple(
            kinds.with_vocabulary(field, tuple(heads[field.name]))
            if isinstance(field, Text) and field.name in heads
            else field
            for field in self.fields
        )
        return replace(self, fields=fields)


def specs(tasks: Sequence[Task]) -> Any:
    """One task as its spec, several as a list of theirs: what a folder's task.json holds."""
    return tasks[0].spec() if len(tasks) == 1 else [one.spec() for one in tasks]


def tasks(spec: Any) -> tuple[Task, ...]:
    """The tasks of a task.json."""
    return tuple(task(one) for one in spec) if isinstance(spec, list) else (task(spec),)


def fingerprint_of(tasks: Sequence[Task]) -> str:
    """The fingerprint of a task, or one over those of several."""
    return tasks[0].fingerprint if len(tasks) == 1 else _digest([t.fingerprint for t in tasks])


def shape_of(tasks: Sequence[Task]) -> str:
    """The shape of a task, or one over those of several."""
    return tasks[0].shape if len(tasks) == 1 else _digest([one.shape for one in tasks])


class HasTasks:
    """What answers `task` and, where there are several, `others`: a dataset, a release."""

    __slots__ = ()
    task: Task
    others: tuple[Task, ...]

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Every task that it answers, its first one first."""
        return (self.task, *self.others)

    def task_named(self, name: str) -> Task:
        """One of its tasks. Raises SetupError where it has none of this name."""
        for one in self.tasks:
            if one.name == name:
                return one
        known = " | ".join(one.name for one in self.tasks)
        raise SetupError(f"task {name!r}", expected=known, todo="ask for one of these")


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def task(spec: Mapping[str, Any]) -> Task:
    """The task of a `spec()`, for example from a dataset's or a release's folder."""
    missing = {"name", "fields", "key"} - set(spec)
    if missing:
        raise SetupError(f"a task without {', '.join(sorted(missing))}", todo="complete the task")
    return Task(
        name=spec["name"],
        key=spec["key"],
        instruction=spec.get("instruction", ""),
        skip=bool(spec.get("skip", False)),
        single=bool(spec.get("single", False)),
        fields=tuple(kinds.field(dict(one)) for one in spec["fields"]),
    )
