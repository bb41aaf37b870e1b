"""Measured: the formats of what a release is made of, on validation, with their files beside it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from raydistill import dataset
from raydistill.dataset import Dataset
from raydistill.proof import formats
from raydistill.proof.formats import Row
from raydistill.proof.students import Students
from raydistill.stages.routed import place
from raydistill.student.masters import Extractor


def measured(
    data: Dataset, students: Students, wanted: Sequence[str], out: Path, *, rows: int, threads: int
) -> list[Row]:
    """A row a student and format, over the first `rows` of validation; none where none is wanted.

    Of a specialist's answers there is what it was taught, and its files are in a folder of its
    name in `beside(out)`.
    """
    if not wanted:
        return []
    if not students.values:
        return _of_one(data, students, "extractor", wanted, beside(out), rows, threads)
    made: list[Row] = []
    for name, values in students.values.items():
        part, folder = dataset.open_(data.folder, only=values), beside(out) / name
        some = _of_one(part, students, place(name), wanted, folder, rows, threads)
        made += [replace(one, specialist=name) for one in some]
    return made


def beside(out: Path) -> Path:
    """Where the files of a release's formats are."""
    return out.with_name(f"{out.name}.formats")


def _of_one(
    data: Dataset,
    students: Students,
    name: str,
    wanted: Sequence[str],
    folder: Path,
    rows: int,
    threads: int,
) -> list[Row]:
    student = students.folders[name]
    some = data.table("val").slice(0, rows)
    master = Extractor(student, threads=threads)
    sample = formats.sample(master, some["text"].to_pylist(), some["answer"].to_pylist())
    return formats.table(student, students.cards[name], [sample], wanted, folder, threads=threads)
