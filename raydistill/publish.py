"""publish: students become a release: quantised, measured against their masters, hashed.

Refused when the quantised extractor disagrees with its master on more than `parity` of the
validation records.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from raydistill import dataset, engine, release
from raydistill.dataset import Dataset
from raydistill.errors import SetupError
from raydistill.proof import formats
from raydistill.proof.before import Before
from raydistill.proof.calibration import validated
from raydistill.proof.measured import beside, measured
from raydistill.proof.students import Answers, Students, masters
from raydistill.questions import publishing
from raydistill.release import Release
from raydistill.stages import filters
from raydistill.stages.extract import Said
from raydistill.stages.routed import ROUTE, extractor
from raydistill.student.folder import Card, card


@dataclass(kw_only=True, slots=True)
class Config:
    """What publish reads, and the gate between a master and its quantised form.

    `extractors` are the student folders of specialists, by the names that the skip classifier tells
    apart; they take the place of `extractor`.
    `validation_rows` of validation state the recall and calibrate the answers; the master, which is
    slower, answers the first `parity_rows` of them. `formats` are measured beside each other and
    kept in a folder beside the release; quantisation=auto takes the fastest of them that passes,
    for every specialist.
    `glance` is the recall that the glance's threshold is chosen for, null for no glance; it is left
    out where validation shows less than `glance_shown` (lower bound, 95 %). The skip classifier is
    not asked where it would keep `glance_sure` (lower bound) of what the glance is as sure of, and
    always where that is null.
    """

    root: str = "runs"
    dataset: str
    skip: str
    extractor: str
    extractors: dict[str, str] = field(default_factory=dict)
    out: str
    label: str = "events"
    quantisation: str = "int8"
    parity: float = 0.005
    parity_rows: int = 1000
    validation_rows: int = 5000
    glance: float | None = 0.999
    glance_shown: float = 0.995
    glance_sure: float | None = 0.996
    threads: int = 2
    licence: str = ""
    teacher: str = ""
    teacher_terms: str = ""
    filters: str | None = None
    formats: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.quantisation == AUTO and not self.formats:
            self.formats = list(engine.QUANTISATIONS)
        for name in ("glance", "glance_shown", "glance_sure"):
            if (value := getattr(self, name)) is not None and not 0 < value <= 1:
                raise SetupError(f"{name}={value}", expected="a share: above 0, 1 at most")


AUTO = "auto"


def run(config: Config) -> Release:
    """Publishes the release of `config`; prints its name and how it compares with its masters."""
    only = _only(config)
    data = dataset.open_(Path(config.dataset), only=only)
    if data.others:
        return _mixture(config, data)
    skip = card(Path(config.skip))
    students = Students.of(data, config.extractor, config.extractors, skip)
    _refuse_strangers(data, config, skip, students)
    extra: dict[str, Any] = {"teacher": config.teacher, "teacher_terms": config.teacher_terms}
    extra |= {"only": list(only)} if only else {}
    extra |= {"specialists": students.values} if students.values else {}
    forms = measured(
        data,
        students,
        config.formats,
        Path(config.out),
        rows=config.parity_rows,
        threads=config.threads,
    )
    quantisation = _chosen(config, forms)
    thresholds = {"skip": float(skip.training["threshold"])}
    thresholds |= {ROUTE: float(skip.training[ROUTE])} if students.values else {}
    shapes = {"skip": skip.shape, **students.shapes}

    def fill(folder: Path) -> dict[str, Any]:
        engine.convert(Path(config.skip), folder / "skip", quantisation=quantisation)
        students.convert(folder, quantisation)
        shutil.copyfile(data.keywords, folder / "keywords.txt")
        before = Before(folder, thresholds, skip.shape["max_input"], config.threads)
        learned = before.look(
            data.table("train"), data.table("val"), recall=config.glance, shown=config.glance_shown
        )
        learned |= before.spare(data.table("val"), shown=config.glance_sure)
        if config.filters is not None:
            filters.read(Path(config.filters))
            shutil.copyfile(config.filters, folder / filters.FILE)
        rows = data.table("val").slice(0, max(config.validation_rows, config.parity_rows))
        stage = extractor(
            folder,
            data.task,
            shapes=shapes,
            thresholds=thresholds,
            specialists=students.values,
            threads=config.threads,
        )
        said = stage.answers(rows["text"].to_pylist())
        some = rows.slice(0, config.parity_rows)
        master = masters(students.folders, stage, some["text"].to_pylist(), threads=config.threads)
        parity = _parity(some, said[: config.parity_rows], master)
        if parity["disagree"] > config.parity:
            shutil.rmtree(folder)
            raise SetupError(
                f"{quantisation} disagrees with its master on {parity['disagree']:.2%} of"
                f" {parity['rows']} validation records",
                expected=f"at most {config.parity:.2%}",
                todo="set quantisation=auto, int8_float32, int16 or float32, or train longer",
            )
        stages = before.stages() | {"end_to_end": before.skip()}
        found = validated(rows, data.task, stages, said)
        extra["calibration"] = found.calibration.spec() if found.calibration else None
        return {
            "parity": parity,
            "skip": skip.training,
            "glance": learned,
            "recall": found.recall,
            "data": data.manifest.get("counts", {}),
            "formats": formats.spec(forms),
        }

    made = release.write(
        Path(config.out),
        fill,
        task=data.task,
        label=config.label,
        dataset=data.fingerprint,
        base=students.base,
        adapter=students.adapter,
        quantisation=quantisation,
        shapes=shapes,
        thresholds=thresholds,
        licence=config.licence,
        extra=extra,
    )
    size = sum(file.stat().st_size for file in made.folder.rglob("*") if file.is_file())
    parity = made.manifest.metrics["parity"]
    print(
        f"parity: {parity['disagree']:.2%} of {parity['rows']} validation records differ,"
        f" {parity['disagree_with_events']:.2%} of the {parity['rows_with_events']} with events"
    )
    _print_validation(made)
    print(f"release: {made.name} at {made.folder} ({size / 2**20:.1f} MiB)")
    return made


def _mixture(config: Config, data: Dataset) -> Release:
    """The release of a student of several tasks: without prefilter and skip."""
    student, out = Path(config.extractor), Path(config.out)
    forms: list[formats.Row] = []
    if config.formats:
        rows = config.parity_rows // len(data.tasks)
        some = publishing.samples(data, student, rows, threads=config.threads)
        forms = formats.table(
            student, card(student), some, config.formats, beside(out), threads=config.threads
        )
    return publishing.publish(
        data,
        student,
        out,
        label=config.label,
        quantisation=_chosen(config, forms),
        formats=formats.spec(forms),
        parity=config.parity,
        parity_rows=config.parity_rows,
        threads=config.threads,
        licence=config.licence,
        extra={"teacher": config.teacher, "teacher_terms": config.teacher_terms},
    )


def _only(config: Config) -> list[str]:
    """The event types that a release of one extractor knows; none where it knows all of them."""
    if config.extractors:
        return []
    return card(Path(config.extractor)).training.get("only") or []


def _refuse_strangers(data: Dataset, config: Config, skip: Card, students: Students) -> None:
    missing = [name for name in students.thresholds if name not in skip.training]
    if missing:
        raise SetupError(
            f"{config.skip} has no skip {' and no '.join(missing)}",
            todo="run train student=skip again",
        )
    cards = {config.skip: skip}
    if not students.values:
        cards[config.extractor] = students.cards["extractor"]
    for folder, one in cards.items():
        if one.dataset != data.fingerprint:
            raise SetupError(
                f"{folder} was trained on dataset {one.dataset}",
                expected=data.fingerprint,
                todo="train on this dataset, or set dataset=",
            )


def _chosen(config: Config, rows: Sequence[formats.Row]) -> str:
    """The quantisation that is asked for; of `auto` the fastest that passes. Prints `rows`."""
    if rows:
        print(formats.printed(rows, config.parity))
    if config.quantisation != AUTO:
        return config.quantisation
    found = formats.fastest(rows, config.parity)
    print(f"quantisation: {found}, the fastest that passes")
    return found


def _parity(rows: pa.Table, said: list[Said], master: Answers) -> dict[str, Any]:
    """How many validation sentences get another answer from the quantised students."""
    differ = [a.differs(b) for a, b in zip(said, master, strict=True)]
    of_events = [one for one, keep in zip(differ, rows["keep"].to_pylist(), strict=True) if keep]
    return {
        "rows": len(rows),
        "disagree": sum(differ) / max(1, len(rows)),
        "rows_with_events": len(of_events),
        "disagree_with_events": sum(of_events) / max(1, len(of_events)),
    }


def _print_validation(made: Release) -> None:
    recall = made.manifest.metrics["recall"]
    end, calibration = recall["end_to_end"], made.manifest.extra["calibration"]
    print(
        f"recall on validation, prefilter to skip: {end['value']:.2%} (at least {end['low']:.2%},"
        f" {recall['with_events']} sentences with events), keeping {recall['kept']:.1%}"
    )
    if calibration is None:
        print("agreement_probability: not calibrated, too few answers on validation")
        return
    judged = calibration["judged"]
    print(
        f"agreement_probability ({calibration['kind']}): ECE {judged['ece']:.1%} on"
        f" {judged['answers']} answers ({judged['ece_of_chance']:.1%} by chance alone)"
    )
