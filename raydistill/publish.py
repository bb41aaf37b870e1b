"""publish: students become a release: quantised, measured against their masters, hashed.

Refused when the quantised extractor disagrees with its master on more than `parity` of the
validation records.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raydistill import dataset, engine, release
from raydistill.dataset import Dataset
from raydistill.errors import SetupError
from raydistill.release import Release
from raydistill.stages import filters
from raydistill.stages.extract import Extract
from raydistill.student.folder import Card, Extractor, card


@dataclass(kw_only=True, slots=True)
class Config:
    """What publish reads, and the gate between a master and its quantised form."""

    root: str = "runs"
    dataset: str
    skip: str
    extractor: str
    out: str
    label: str = "events"
    quantisation: str = "int8"
    parity: float = 0.005
    parity_rows: int = 1000
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

    def fill(folder: Path) -> dict[str, Any]:
        engine.convert(Path(config.skip), folder / "skip", quantisation=config.quantisation)
        engine.convert(
            Path(config.extractor), folder / "extractor", quantisation=config.quantisation
        )
        shutil.copyfile(data.keywords, folder / "keywords.txt")
        if config.filters is not None:
            filters.read(Path(config.filters))
            shutil.copyfile(config.filters, folder / filters.FILE)
        parity = _parity(config, data, folder / "extractor", extractor)
        if parity["disagree"] > config.parity:
            shutil.rmtree(folder)
            raise SetupError(
                f"{config.quantisation} disagrees with its master on {parity['disagree']:.2%} of"
                f" {parity['rows']} validation records",
                expected=f"at most {config.parity:.2%}",
                todo="set quantisation=int8_float32, int16 or float32, or train longer",
            )
        return {"parity": parity, "skip": skip.training}

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
        extra={"teacher": config.teacher, "teacher_terms": config.teacher_terms},
    )
    size = sum(file.stat().st_size for file in made.folder.rglob("*") if file.is_file())
    parity = made.manifest.metrics["parity"]
    print(
        f"parity: {parity['disagree']:.2%} of {parity['rows']} validation records differ,"
        f" {parity['disagree_with_events']:.2%} of the {parity['rows_with_events']} with events"
    )
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


def _parity(config: Config, data: Dataset, folder: Path, extractor: Card) -> dict[str, Any]:
    """How many validation sentences get another answer from the quantised extractor."""
    rows = data.table("val").slice(0, config.parity_rows)
    texts = rows["text"].to_pylist()
    stage = Extract(
        folder,
        data.task,
        target=extractor.target,
        threads=config.threads,
        max_input=extractor.shape["max_input"],
        max_output=extractor.shape["max_output"],
    )
    quantised = [answer for answer, _ in stage.answers(texts)]
    master = Extractor(Path(config.extractor), threads=config.threads).answers(texts)
    differ = [str(a) != str(b) for a, b in zip(quantised, master, strict=True)]
    of_events = [one for one, keep in zip(differ, rows["keep"].to_pylist(), strict=True) if keep]
    return {
        "rows": len(texts),
        "disagree": sum(differ) / max(1, len(texts)),
        "rows_with_events": len(of_events),
        "disagree_with_events": sum(of_events) / max(1, len(of_events)),
    }
