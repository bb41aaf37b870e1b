"""The tasks that come with raydistill, by name, and a user's own by where it is: `module:NAME`."""

import importlib
from collections.abc import Iterator, Mapping

from raydistill.errors import SetupError
from raydistill.task import Task
from raydistill.tasks.filing_events import FILING_EVENTS
from raydistill.tasks.query_currency import QUERY_CURRENCY
from raydistill.tasks.query_dates import QUERY_DATES
from raydistill.tasks.query_entities import QUERY_ENTITIES
from raydistill.tasks.query_kind import QUERY_KIND

QUESTIONS = (QUERY_KIND, QUERY_ENTITIES, QUERY_CURRENCY, QUERY_DATES)
MIXTURES = {"questions": QUESTIONS}  # several tasks of one student, by the name task= takes

_BUILT_IN = {task.name: task for task in (FILING_EVENTS, *QUESTIONS)}


class Tasks(Mapping[str, Task]):
    """Tasks by name. `module:NAME` is found by import; raises SetupError where there is none.

    Iterating gives the names of those that come with raydistill.
    """

    def __getitem__(self, name: str) -> Task:
        if name in _BUILT_IN:
            return _BUILT_IN[name]
        module, colon, attribute = name.partition(":")
        if not colon:
            raise SetupError(
                f"task={name}",
                expected=f"{' | '.join(sorted(_BUILT_IN))}, or your own as module:NAME",
                todo="set task=NAME",
            )
        return _own(module, attribute)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (name in _BUILT_IN or ":" in name)

    def __iter__(self) -> Iterator[str]:
        return iter(_BUILT_IN)

    def __len__(self) -> int:
        return len(_BUILT_IN)


def _own(module: str, attribute: str) -> Task:
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ModuleNotFoundError as problem:
        raise SetupError(
            f"task={module}:{attribute}: {problem}",
            expected=f"a file {module.replace('.', '/')}.py that Python can import",
            todo="run from its folder, or install it; put it into --working-dir of a Ray job",
        ) from None
    if not isinstance(found, Task):
        raise SetupError(
            f"task={module}:{attribute} is {type(found).__name__}",
            expected=f"{attribute} = Task(...) in {module}",
            todo="correct the name behind the colon",
        )
    return found


TASKS = Tasks()
