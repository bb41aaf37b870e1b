"""The account of a run: a table at the end, and what stays in the run folder.

begun.json    written first: what the run is made of
stats.txt     Ray Data's own statistics of the last driver
metrics.prom  Prometheus counters of the last driver
run.json      written last: the account
"""

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from raydistill.chunk import COUNTS
from raydistill.corpus.totals import Totals
from raydistill.errors import SetupError
from raydistill.progress import duration, table

_BEGUN = "begun.json"


def open_folder(folder: Path, parts: Mapping[str, str]) -> Path:
    """The run's folder, made where it is missing; refused where something else lies in it."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / _BEGUN).exists():
        raise SetupError(
            f"{folder} holds something else than a backfill",
            expected="a folder of the run's own",
            todo="set run=OTHERNAME, or root=",
        )
    keep(folder / _BEGUN, json.dumps(dict(parts), indent=2))
    return folder


def keep(file: Path, text: str) -> None:
    """Writes a file of the run folder; a full or read-only disk costs the file, not the run."""
    fresh = file.with_name(f"{file.name}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(file)
    except OSError as problem:
        print(f"backfill: {file} cannot be written ({problem}); the rows themselves are safe")


def write(folder: Path, report: Mapping[str, Any]) -> None:
    """Writes run.json, the last file of a run."""
    keep(folder / "run.json", json.dumps(report, indent=2))


def told(
    written: Mapping[str, Any], totals: Totals, *, seconds: float, ended: str, parts: Any
) -> dict[str, Any]:
    """The account: the run's ledger, and what this driver did of it."""
    sentences = totals.sums["sentences"]
    return {
        **written,
        "ended": ended,
        "ended_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "made_of": dict(parts),
        "new": totals.sums["new"],
        "new_sentences": sentences,
        "new_glanced": totals.sums["glanced"],
        "execute_seconds": seconds,
        "sentences_per_second": sentences / max(1e-9, seconds),
        "stage_seconds": totals.seconds,
        "chunks": totals.chunks,
        "actor_rss_mib_first_tenth": totals.rss_first_tenth,
        "actor_rss_mib_end": totals.rss_mib,
        "actor_peak_mib": totals.peak_mib,
    }


def show(report: Mapping[str, Any], totals: Totals) -> None:
    """Prints the account."""
    names = ("filings", *COUNTS, "events", "dead_letters")
    print(table([tuple(f"{report[name]:,}" for name in names)], names))
    if report["codes"]:
        print("dead letters:", ", ".join(f"{k} {v:,}" for k, v in report["codes"].items()))
    if report["abstained"]:
        print(abstention(report))
    candidates, glanced = totals.sums["candidates"], totals.sums["glanced"]
    if glanced < candidates:
        print(f"glance: {glanced / candidates:.1%} of {candidates:,} candidates went on to skip")
    if totals.chunks:
        first = totals.rss_first_tenth or 0.0
        print(
            f"in {duration(report['execute_seconds'])},"
            f" {report['sentences_per_second']:,.0f} sentences/s; stages: {totals.shares}\n"
            f"memory of the largest actor: {first:,.0f} MiB after a tenth,"
            f" {totals.rss_mib:,.0f} MiB at the end, peak {totals.peak_mib:,.0f} MiB"
        )


def abstention(report: Mapping[str, Any]) -> str:
    """What abstaining costs and brings, from the calibrated probabilities."""
    answers, abstained = report["answers"], report["abstained"]
    rest = report["agreement_kept"] / max(1, answers - abstained)
    return (
        f"abstained: {abstained:,} of {answers:,} answers ({abstained / max(1, answers):.1%}) wait"
        f" in raydistill.review; expected agreement of the rest {rest:.1%},"
        f" of all {report['agreement'] / max(1, answers):.1%}"
    )
