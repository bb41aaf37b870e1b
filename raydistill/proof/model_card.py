"""Model cards: what a release is, what it was taught on, how good it is and what it is not for."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from raydistill.proof.report import grid, span
from raydistill.release import Manifest


def markdown(manifest: Manifest, report: Mapping[str, Any] | None) -> str:
    """The card of a release; figures are those of its report, or said to be missing."""
    facts = asdict(manifest)
    lines = [f"# {manifest.name}", ""]
    lines += grid(
        ("", ""),
        [
            ("task", f"{manifest.task} ({manifest.task_fingerprint})"),
            ("dataset", manifest.dataset),
            ("published", manifest.created_at),
            ("made by", f"raydistill {manifest.code}"),
            ("base", manifest.base or "trained from scratch"),
            ("adapter", manifest.adapter or "none"),
            ("quantisation", manifest.quantisation),
            ("licence", manifest.licence or "not stated"),
            ("teacher", str(manifest.extra.get("teacher", "not stated"))),
            ("terms of the teacher", str(manifest.extra.get("teacher_terms", "not stated"))),
            ("safety filters", "carried, see filters.json" if _filtered(manifest) else "none"),
            *(
                (f"specialist: {name}", ", ".join(some) or "all other types")
                for name, some in manifest.extra.get("specialists", {}).items()
            ),
            *((f"threshold: {name}", f"{v:.4f}") for name, v in manifest.thresholds.items()),
        ],
    )
    lines += ["## Shape", ""]
    lines += grid(
        ("stage", "shape"),
        [
            (name, ", ".join(f"{k} {v}" for k, v in one.items()))
            for name, one in facts["shapes"].items()
        ],
    )
    lines += ["## Agreement with the teacher", "", *_quality(report)]
    lines += [
        "## What it is for, and what not",
        "",
        "It gives the teacher's answers, with the teacher's mistakes, on text like its dataset's."
        " Figures above are agreement with the teacher, not truth. It has not been shown to work on"
        " other languages, other kinds of documents or sentences longer than its input.",
        "",
        "## Files",
        "",
    ]
    lines += grid(("file", "SHA-256"), [(n, f"`{h}`") for n, h in manifest.files.items()])
    return "\n".join(lines)


def _filtered(manifest: Manifest) -> bool:
    return "filters.json" in manifest.files


def _quality(report: Mapping[str, Any] | None) -> list[str]:
    if report is None:
        return ["Not evaluated.", ""]
    if "tasks" in report:
        return _by_task(report)
    rows: list[tuple[str, ...]] = []
    for name, part in report["extractor"].items():
        fall = report["waterfall"][name]["rates"]
        interval = {"low": part["agreement_low"], "high": part["agreement_high"]}
        rows.append(
            (
                name,
                f"{part['truth']:,}",
                f"{part['f1']:.1%} ({span(interval)})",
                f"{fall['found']['value']:.1%} ({span(fall['found'])})",
            )
        )
    lines = [f"{report['rows']:,} sentences of {report['companies']:,} companies kept back.", ""]
    lines += grid(("slice", "events", "whole records, F1", "events found end to end"), rows)
    lines += [
        f"Invented events per 1,000 sentences without one: {report['invented_per_1000']:.2f}.",
        "",
    ]
    return lines


def _by_task(report: Mapping[str, Any]) -> list[str]:
    """The figures of a release of several tasks."""
    rows = [
        (
            one["task"],
            one["source"],
            f"{one['cases']:,}",
            *(f"{one['student'][name]:.1%}" for name in ("precision", "recall", "f1", "valid")),
            f"{one['base']['f1']:.1%}",
        )
        for one in report["tasks"]
    ]
    head = ("task", "cases", "number", "precision", "recall", "F1", "valid", "F1 of the base")
    return grid(head, rows)
