"""What a build says of itself: the prefilter's figures, and the printed account."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.stats import beta

from raydistill.dataset import Dataset
from raydistill.errors import SetupError
from raydistill.intervals import bootstrap
from raydistill.lessons.plan import BOILERPLATE, EASY, HARD
from raydistill.progress import table
from raydistill.stages.prefilter import Prefilter

KINDS = {BOILERPLATE: "boilerplate", HARD: "hard", EASY: "easy"}


def held_out(tested: pa.Table, seed: int) -> dict[str, Any]:
    """Recall on the test companies' randomly drawn rows, its 95 % interval, and what passes.

    `low` is the lower of two bounds: companies drawn again, and Clopper-Pearson's, which still says
    something where every event passes.
    """
    keep, passed = np.asarray(tested["keep"]), np.asarray(tested["passed"])
    groups = tested["group"].to_pylist()
    events = int(keep.sum())
    found = int((keep & passed).sum())
    low, high = bootstrap(groups, (keep & passed).astype(float), keep.astype(float), seed=seed)
    low = min(low, float(beta.ppf(0.025, found, events - found + 1))) if found else 0.0
    return {
        "events": events,
        "companies": len({group for group, one in zip(groups, keep, strict=True) if one}),
        "recall": float(passed[keep].mean()) if events else None,
        "low": low,
        "high": high,
        "others_rejected": float(1 - passed[~keep].mean()) if (~keep).any() else None,
    }


def corpus_pass(file: Path, words: list[str]) -> dict[str, float]:
    """How many sentences of a Parquet file (`sentence` or `text`) the keywords turn away."""
    try:
        opened = pq.ParquetFile(file)
        column = next(n for n in ("sentence", "text") if n in opened.schema_arrow.names)
    except (OSError, pa.ArrowException, StopIteration):
        raise SetupError(
            f"corpus={file}", expected="Parquet with a column sentence or text"
        ) from None
    prefilter, rows, passed = Prefilter(words), 0, 0
    for batch in opened.iter_batches(65_536, columns=[column]):
        mask = prefilter.mask(batch[column])
        rows, passed = rows + len(mask), passed + int(np.asarray(mask).sum())
    return {"sentences": rows, "rejected": 1 - passed / max(1, rows)}


def print_account(made: Dataset) -> None:
    """Prints the splits, the account of all rows, rejects, and what the prefilter does."""
    manifest = made.manifest
    names = ("rows", "events", "companies", *KINDS.values())
    rows = [
        (split, *(f"{each[name]:,}" for name in names))
        for split, each in manifest["counts"].items()
    ]
    print(table(rows, ("split", "sentences", "with events", "companies", *KINDS.values())))
    account = [f"{name.replace('_', ' ')} {n:,}" for name, n in manifest["account"].items()]
    print("account:", ", ".join(account))
    if manifest["rejects"]:
        print("rejected:", ", ".join(f"{k} {v:,}" for k, v in manifest["rejects"].items()))
    if low := manifest["rejects"].get("low_confidence"):
        floor = manifest["filters"]["confidence"]
        print(f"confidence: {low:,} sentences below {floor} are left out; confidence=0 keeps them")
    learned = manifest["prefilter"]
    print(f"prefilter: {learned['keywords']} keywords, {learned['claim']}")
    held = learned["held_out"]
    if held["events"]:
        print(
            f"prefilter on the test companies: recall {held['recall']:.3f}"
            f" ({held['low']:.3f} to {held['high']:.3f}, {held['events']:,} events of"
            f" {held['companies']:,} companies)"
        )
    if "corpus" in learned:
        corpus = learned["corpus"]
        print(f"prefilter on {corpus['sentences']:,} sentences: {corpus['rejected']:.1%} rejected")
    print(f"dataset: {made.folder} ({made.fingerprint})")
