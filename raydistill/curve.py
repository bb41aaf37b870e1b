"""curve: agreement with the teacher against training rows, to tell whether more labels would help.

Students of one shape and one training are taught on growing parts of a dataset's companies, each
part within the next, and asked about the same test sentences. Vocabularies and tokenizer are the
whole dataset's, which flatters the small parts a little.
"""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raydistill import dataset, plots, train
from raydistill.dataset import Dataset
from raydistill.errors import SetupError
from raydistill.progress import table
from raydistill.proof.compare import MEASURES, measured, sample, scores
from raydistill.proof.report import replaced, template


@dataclass(kw_only=True, slots=True)
class Config(train.Config):
    """A training, and how it is repeated: on `shares` of the training companies, smallest first.

    Test sentences are `test_rows`, by the dataset's shuffled order; `out` gets a folder a share.
    """

    shares: list[float] = field(default_factory=lambda: [0.125, 0.25, 0.5, 1.0])
    split: str = "test"
    test_rows: int = 2000
    draws: int = 1000

    def __post_init__(self) -> None:
        if not self.shares or not all(0 < one <= 1 for one in self.shares):
            raise SetupError(f"shares={self.shares}", expected="numbers above 0, up to 1")
        if self.student.kind.value == "encoder":
            raise SetupError("the student is a classifier", expected="an extractor")


def run(config: Config) -> list[dict[str, Any]]:
    """Writes curve.json and curve.html to `config.out` and prints them; one point a share."""
    data = dataset.open_(Path(config.dataset), only=config.only)
    if data.others:
        raise SetupError(
            f"{config.dataset} is a mixture of tasks",
            expected="a dataset of one task",
            todo="draw the curve of each task's own dataset",
        )
    rows = data.table(config.split).slice(0, config.test_rows)
    if not len(rows):
        raise SetupError(f"the {config.split} split is empty", todo="raise split.test")
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    points: list[dict[str, Any]] = []
    for share in sorted(set(config.shares)):
        part = subset(data, out / f"dataset-{share:g}", share, config.fit.seed)
        student = out / f"student-{share:g}"
        train.run(_training(config, part, student))
        points.append(
            {
                "share": share,
                "rows": part.manifest["counts"]["train"]["rows"],
                "companies": part.manifest["counts"]["train"]["companies"],
                **agreement(config, data, student, rows),
            }
        )
        shutil.rmtree(part.folder)
    made = {"dataset": data.fingerprint, "split": config.split, "task": data.task.name,
            "fit": json.loads(json.dumps(asdict(config.fit), default=str)),
            "points": points}  # fmt: skip
    page = template("curve.html.j2").render(made=made, drawn=plots.learning(points))
    replaced(out / "curve.html", page)
    replaced(out / "curve.json", json.dumps(made, indent=2, ensure_ascii=False))
    _print(points)
    print(f"curve: {out / 'curve.html'}")
    return points


def _training(config: Config, part: Dataset, student: Path) -> train.Config:
    given: dict[str, Any] = {one.name: getattr(config, one.name) for one in fields(train.Config)}
    given["dataset"], given["out"] = str(part.folder), str(student)
    return train.Config(**given)


def subset(data: Dataset, folder: Path, share: float, seed: int) -> Dataset:
    """A dataset of about `share` of the training companies; a smaller share lies within a larger.

    Validation and test are the same files as the whole dataset's.
    """
    counts = {"rows": 0, "events": 0, "companies": 0}

    def fill(made: Path) -> dict[str, Any]:
        (made / "train").mkdir()
        seen: set[str] = set()
        for number, piece in enumerate(_kept(data, share, seed)):
            pq.write_table(piece, made / "train" / f"{number:05}.parquet")
            counts["rows"] += len(piece)
            counts["events"] += sum(piece["keep"].to_pylist())
            seen.update(piece["group"].to_pylist())
        counts["companies"] = len(seen)
        for name in ("val", "test"):
            shutil.copytree(data.folder / name, made / name, copy_function=os.link)
        shutil.copyfile(data.keywords, made / "keywords.txt")
        counted = {**data.manifest["counts"], "train": counts}
        return {**data.manifest, "counts": counted, "share": share}

    return dataset.write(folder, fill, task=data.task, tokenizer=data.tokenizer())


def _kept(data: Dataset, share: float, seed: int) -> Iterator[pa.Table]:
    for file in sorted((data.folder / "train").glob("*.parquet")):
        piece = pq.read_table(file)
        keep = [dataset.share(one, seed) < share for one in piece["group"].to_pylist()]
        yield piece.filter(pa.array(keep, pa.bool_()))


def agreement(config: Config, data: Dataset, student: Path, rows: pa.Table) -> dict[str, Any]:
    """A student's agreement on these rows: F1 of records and whole answers, with intervals."""
    from raydistill.student.masters import Extractor

    taken = sample(rows, data.task)
    said = Extractor(student, threads=config.threads).answers(taken.texts)
    found = scores(data.task, taken.truths, dict(zip(taken.ids, said, strict=True)))
    picked = [found[id] for id in taken.ids]
    return {
        name: measured(picked, taken.groups, MEASURES[name], draws=config.draws)
        for name in ("f1", "agreement", "precision", "recall")
    }


def _print(points: list[dict[str, Any]]) -> None:
    lines = [
        (
            f"{one['share']:.0%}",
            f"{one['rows']:,}",
            f"{one['companies']:,}",
            *(
                f"{one[name]['value']:.1%} ({one[name]['low']:.1%}-{one[name]['high']:.1%})"
                for name in ("f1", "agreement")
            ),
        )
        for one in points
    ]
    print(table(lines, ("share", "rows", "companies", "F1 of records", "whole answers")))
