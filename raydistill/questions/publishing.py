"""Publishing a mixture's student: quantised, measured against its master in every task, hashed."""

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa

from raydistill import engine, release
from raydistill.dataset import Dataset
from raydistill.errors import SetupError
from raydistill.proof.formats import Sample, sample
from raydistill.questions.answering import stages
from raydistill.questions.asking import asking, rows_of
from raydistill.release import Release
from raydistill.student.folder import card
from raydistill.student.masters import Extractor


def publish(
    data: Dataset,
    student: Path,
    out: Path,
    *,
    label: str,
    quantisation: str,
    formats: list[dict[str, Any]],
    parity: float,
    parity_rows: int,
    threads: int,
    licence: str,
    extra: dict[str, Any],
) -> Release:
    """The release of a student that answers all tasks of `data`; `formats` is told in its manifest.

    Refused where more than `parity` of its validation answers are not its master's.
    """
    found = card(student)
    if found.dataset != data.fingerprint:
        raise SetupError(
            f"{student} was trained on dataset {found.dataset}",
            expected=data.fingerprint,
            todo="train on this dataset, or set dataset=",
        )
    shape = {**found.shape, "target": found.target}

    def fill(folder: Path) -> dict[str, Any]:
        engine.convert(student, folder / "extractor", quantisation=quantisation)
        compared = _parity(data, student, folder / "extractor", shape, parity_rows, threads)
        if compared["disagree"] > parity:
            shutil.rmtree(folder)
            raise SetupError(
                f"{quantisation} disagrees with its master on {compared['disagree']:.2%} of"
                f" {compared['rows']} validation answers",
                expected=f"at most {parity:.2%}",
                todo="set quantisation=int8_float32, int16 or float32, or train longer",
            )
        return {"parity": compared, "formats": formats}

    made = release.write(
        out,
        fill,
        task=data.task,
        others=data.others,
        label=label,
        dataset=data.fingerprint,
        base=None,
        adapter=None,
        quantisation=quantisation,
        shapes={"extractor": shape},
        thresholds={},
        licence=licence,
        extra=extra,
    )
    compared = made.manifest.metrics["parity"]
    print(f"parity: {compared['disagree']:.2%} of {compared['rows']} validation answers differ")
    print(f"release: {made.name} at {made.folder}, {len(made.tasks)} tasks")
    return made


def samples(data: Dataset, student: Path, rows: int, *, threads: int) -> list[Sample]:
    """The first `rows` of every task in validation, answered by the master, to measure formats."""
    table, master = data.table("val"), Extractor(student, threads=threads)
    out: list[Sample] = []
    for task in data.tasks:
        some: pa.Table = rows_of(table, task).slice(0, rows)
        texts, answers = some["text"].to_pylist(), some["answer"].to_pylist()
        out.append(sample(master, texts, answers, asked=(task, asking(master.card.frame, task))))
    return out


def _parity(
    data: Dataset, student: Path, folder: Path, shape: dict[str, Any], most: int, threads: int
) -> dict[str, Any]:
    """How many validation answers of the quantised student are not its master's, by task."""
    table = data.table("val")
    quantised = stages(folder, data.tasks, shape=shape, threads=threads)
    master = Extractor(student, threads=threads)
    rows, differ, by_task = 0, 0, dict[str, float]()
    for task in data.tasks:
        some: pa.Table = rows_of(table, task).slice(0, most // len(data.tasks))
        texts = some["text"].to_pylist()
        wanted = master.asking(task, asking(master.card.frame, task)).answers(texts)
        said = quantised[task.name].answers(texts)
        wrong = sum(a.differs(b) for a, b in zip(said, wanted, strict=True))
        by_task[task.name] = wrong / max(1, len(texts))
        rows, differ = rows + len(texts), differ + wrong
    return {"rows": rows, "disagree": differ / max(1, rows), "tasks": by_task}
