"""The error tree. Setup errors stop a job at once; data errors become rows with a code.

RaydistillError
├── SetupError      wrong input to a job: one clear message, exit code 2, no traceback
└── DataError       wrong data in a row: has a `code`, is counted and kept, the run goes on
    ├── AnswerError     an answer (a teacher's or a student's) that is none of its Task
    └── FilingError     a filing that cannot be read
"""


class RaydistillError(Exception):
    """The root of every error raydistill raises on purpose."""


class SetupError(RaydistillError):
    """A job cannot start. Says what was found, what was expected and what to do."""

    def __init__(self, found: str, *, expected: str = "", todo: str = "") -> None:
        self.found, self.expected, self.todo = found, expected, todo
        parts = [found]
        if expected:
            parts.append(f"expected: {expected}")
        if todo:
            parts.append(f"do: {todo}")
        super().__init__("\n  ".join(parts))

    def __reduce__(self) -> tuple[object, ...]:  # keyword arguments do not survive pickling by args
        return (_setup_error, (self.found, self.expected, self.todo))


def _setup_error(found: str, expected: str, todo: str) -> SetupError:
    return SetupError(found, expected=expected, todo=todo)


class DataError(RaydistillError):
    """One row is wrong. `code` is a short snake_case name that is counted and can be queried."""

    def __init__(self, code: str, detail: str = "") -> None:
        self.code, self.detail = code, detail
        super().__init__(f"{code}: {detail}" if detail else code)

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.code, self.detail))


class AnswerError(DataError):
    """An answer does not parse, or has a value its field does not allow."""


class FilingError(DataError):
    """A filing cannot be read (binary, empty, not text)."""


class Drained(SystemExit):
    """A run that a signal ended, with what it had begun committed; the code is 128 + the signal.

    Threads of Ray still wait for chunks then. Whoever owns the process ends it at once: at an
    orderly exit they would ask Ray after its own end, and it ends the process with 1.
    """
