"""Asking: the token that tells a student which of its tasks is asked, and where it stands."""

from dataclasses import replace
from typing import Any

import pyarrow as pa
from pyarrow import compute

from raydistill.frame import Frame
from raydistill.target import Target
from raydistill.task import Task
from raydistill.tokenizer import Tokenizer

pc: Any = compute  # its functions are made at run time: no type checker sees them


def mark(task: str) -> str:
    """The token that asks for a task."""
    return f"<task={task}>"


def asking(frame: Frame, task: Task) -> Frame:
    """The frame in which a student is asked for one of its tasks.

    The mark stands behind the text, so that positions in the text stay what they are.
    """
    return replace(frame, after=(mark(task.name), *frame.after))


def target_of(task: Task, kind: str, tokenizer: Tokenizer, frame: Frame, positions: int) -> Target:
    """How a task's answers are written by a student of this tokenizer and frame."""
    return task.target(
        kind,
        positions=positions if frame.positions is None else frame.positions,
        spell=tokenizer.spell,
        unspell=tokenizer.unspell,
    )


def rows_of(table: pa.Table, task: Task) -> pa.Table:
    """The rows of one task."""
    return table.filter(pc.equal(table["task"], task.name))
