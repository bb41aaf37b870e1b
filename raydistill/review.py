"""review: a sheet of sentences for people to check, and how far they agree with the teacher.

Without `corrections` it writes a stratified sheet for Label Studio and for spreadsheets; with the
files that came back it reports the people's agreement with the teacher. `build` takes the same
files as labels that override the teacher's.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raydistill import dataset
from raydistill.dataset import SPLITS, Dataset
from raydistill.errors import SetupError
from raydistill.lessons import corrections, label_studio, review_sheet
from raydistill.progress import table


@dataclass(kw_only=True, slots=True)
class Config:
    """Which rows go into a sheet, or which files came back."""

    root: str = "runs"
    dataset: str
    out: str
    split: str = "test"
    rows: int = 500
    skip: float = 0.3
    types: int = 20
    records: int = 3
    seed: int = 0
    corrections: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise SetupError(f"split={self.split}", expected=" | ".join(SPLITS))
        if self.rows < 1 or self.records < 1 or self.types < 1 or not 0 <= self.skip <= 1:
            raise SetupError(
                f"rows={self.rows}, records={self.records}, types={self.types}, skip={self.skip}",
                expected="at least 1 each, and skip in 0..1",
            )


def run(config: Config) -> dict[str, Any]:
    """Writes the sheet, or reads what came back; prints and gives what is in it."""
    made = dataset.of_one_task(Path(config.dataset))
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    return _report(made, config, out) if config.corrections else _sheet(made, config, out)


def _sheet(made: Dataset, config: Config, out: Path) -> dict[str, Any]:
    rows = review_sheet.sheet(
        made,
        config.split,
        rows=config.rows,
        skip=config.skip,
        types=config.types,
        seed=config.seed,
    )
    most = max((len(made.task.parse(row.answer).records) for row in rows), default=1)
    records = 1 if made.task.single else max(config.records, most)
    tasks = label_studio.tasks(rows, made.task, records)
    text = json.dumps(tasks, ensure_ascii=False, indent=1)
    (out / "tasks.json").write_text(text, encoding="utf-8")
    (out / "labeling.xml").write_text(label_studio.config(made.task, records), encoding="utf-8")
    review_sheet.write_csv(out / "sheet.csv", rows, made.task)
    strata = len({row.stratum for row in rows})
    print(f"sheet: {len(rows):,} sentences of {config.split} in {strata} strata")
    print(
        f"Label Studio: labeling.xml as the project's interface, then import {out / 'tasks.json'}"
    )
    print(f"spreadsheet:  {out / 'sheet.csv'}; put a name into reviewer where a row was checked")
    return {"rows": len(rows), "strata": strata}


def _report(made: Dataset, config: Config, out: Path) -> dict[str, Any]:
    said = corrections.read(config.corrections, made.task)
    found = corrections.agreement(said, made.task)
    found["corrections"] = said.manifest(list(said.by_id))
    (out / "review.json").write_text(json.dumps(found, indent=2, ensure_ascii=False))
    low, high = found["interval"]
    print(
        f"{found['reviewed']:,} sentences reviewed by {len(found['corrections']['reviewers'])}:"
        f" {found['corrections']['changed']:,} labels changed"
        f"\npeople agree with the teacher on {found['whole']:.1%} of sentences"
        f" ({low:.1%} to {high:.1%}), weighted to the whole split"
    )
    rows = [
        (name, f"{one['agreement']:.1%}", f"{one['aligned']:,}")
        for name, one in found["tally"]["fields"].items()
    ]
    print(table(rows, ("field", "agreement", "records")))
    if said.rejects:
        print("rejected:", ", ".join(f"{id} {code}" for id, code in said.rejects[:20]))
    return found
