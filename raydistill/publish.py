"""publish: students become a release: quantised, measured against their masters, hashed.

Refused when the quantised extractor disagrees with its master on more than `parity` of the
validation records.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from raydistill import dataset, engine, keywords, release
from raydistill.dataset import Dataset
from raydistill.errors import SetupError
from raydistill.proof.calibration import Validated, validated
from raydistill.release import Release
from raydistill.stages import filters
from raydistill.stages.extract import Extract, Said
from raydistill.stages.prefilter import Prefilter
from raydistill.stages.skip import Skip
from raydistill.student.folder import Card, Extractor, card


@dataclass(kw_only=True, slots=True)
class Config:
    """What publish reads, and the gate between a master and its quantised form.

    `validation_rows` of validation state the recall and calibrate the answers; the master, which is
    slower, answers the first `parity_rows` of them.
    """

    root: str = "runs"
    dataset: str
    skip: str
    extractor: str
    out: str
    label: str = "events"
    quantisation: str = "int8"
    parity: float = 0.005
    parity_rows: int = 1000
    validation_rows: int = 5000
    threads: int = 2
    licence: str = ""
    teacher: str = ""
    teacher_terms: str = ""
    filters: str | None = None


def run(config: Config) -> Release:
    """Publishes the release of `config`; prints its name and how it compares with its masters."""
    data = dataset.open_(Path(config.dataset))
    skip, extractor = card(Path(config.skip)), card(Path(config.extractor))
    _refuse_strangers(data, {config.skip: skip, config.extractor: extractor})
    if "threshold" not in skip.training:
        raise SetupError(
            f"{config.skip} has no skip threshold", todo="run train student=skip again"
        )

    extra: dict[str, Any] = {"teacher": config.teacher, "teacher_terms": config.teacher_terms}

    def fill(folder: Path) -> dict[str, Any]:
        engine.convert(Path(config.skip), folder / "skip", quantisation=config.quantisation)
        engine.convert(
            Path(config.extractor), folder / "extractor", quantisation=config.quantisation
        )
        shutil.copyfile(data.keywords, folder / "keywords.txt")
        if config.filters is not None:
            filters.read(Path(config.filters))
            shutil.copyfile(config.filters, folder / filters.FILE)
        rows = data.table("val").slice(0, max(config.validation_rows, config.parity_rows))
        said = _said(config, data, folder / "extractor", extractor, rows["text"].to_pylist())
        parity = _parity(config, rows.slice(0, config.parity_rows), said[: config.parity_rows])
        if parity["disagree"] > config.parity:
            shutil.rmtree(folder)
            raise SetupError(
                f"{config.quantisation} disagrees with its master on {parity['disagree']:.2%} of"
                f" {parity['rows']} validation records",
                expected=f"at most {config.parity:.2%}",
                todo="set quantisation=int8_float32, int16 or float32, or train longer",
            )
        found = _validated(config, data, folder, skip, rows, said)
        extra["calibration"] = found.calibration.spec() if found.calibration else None
        return {"parity": parity, "skip": skip.training, "recall": found.recall}

    made = release.write(
        Path(config.out),
        fill,
        task=data.task,
        label=config.label,
        dataset=data.fingerprint,
        base=None,
        adapter=None,
        quantisation=config.quantisation,
        shapes={
            "skip": skip.shape,
            "extractor": {**extractor.shape, "target": extractor.target},
        },
        thresholds={"skip": float(skip.training["threshold"])},
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


def _refuse_strangers(data: Dataset, cards: dict[str, Card]) -> None:
    for folder, one in cards.items():
        if one.dataset != data.fingerprint:
            raise SetupError(
                f"{folder} was trained on dataset {one.dataset}",
                expected=data.fingerprint,
                todo="train on this dataset, or set dataset=",
            )


def _said(
    config: Config, data: Dataset, folder: Path, extractor: Card, texts: list[str]
) -> list[Said]:
    """What the quantised extractor says of these sentences."""
    stage = Extract(
        folder,
        data.task,
        target=extractor.target,
        threads=config.threads,
        max_input=extractor.shape["max_input"],
        max_output=extractor.shape["max_output"],
    )
    return stage.answers(texts)


def _parity(config: Config, rows: pa.Table, said: list[Said]) -> dict[str, Any]:
    """How many validation sentences get another answer from the quantised extractor."""
    texts = rows["text"].to_pylist()
    master = Extractor(Path(config.extractor), threads=config.threads).answers(texts)
    differ = [str(a.answer) != str(b) for a, b in zip(said, master, strict=True)]
    of_events = [one for one, keep in zip(differ, rows["keep"].to_pylist(), strict=True) if keep]
    return {
        "rows": len(texts),
        "disagree": sum(differ) / max(1, len(texts)),
        "rows_with_events": len(of_events),
        "disagree_with_events": sum(of_events) / max(1, len(of_events)),
    }


def _validated(
    config: Config, data: Dataset, folder: Path, skip: Card, rows: pa.Table, said: list[Said]
) -> Validated:
    """The stated recall and the calibration of the stages in a release's folder."""
    stage = Skip(
        folder / "skip",
        threshold=float(skip.training["threshold"]),
        threads=config.threads,
        max_input=skip.shape["max_input"],
    )
    prefilter = Prefilter(keywords.read(folder / "keywords.txt"))
    return validated(rows, data.task, prefilter, stage, said)


def _print_validation(made: Release) -> None:
    recall = made.manifest.metrics["recall"]
    end, calibration = recall["end_to_end"], made.manifest.extra["calibration"]
    print(
        f"recall on validation, prefilter and skip: {end['value']:.2%} (at least {end['low']:.2%},"
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
