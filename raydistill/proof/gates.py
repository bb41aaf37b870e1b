"""Gates: what a release must show before it may answer anybody. Each refuses with its reason."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raydistill.release import Release


@dataclass(kw_only=True, slots=True)
class Gates:
    """Limits on agreement (F1 of whole records, and its lower bound), invention, size and parity.

    `max_slice_regression` is how far below production any slice may fall, by the best case of
    the new release (the upper end of its interval), so that noise alone refuses nobody.
    `slice` names the slice of the report that agreement is read from; all where null.
    """

    slice: str | None = None
    min_agreement: float = 0.95
    min_agreement_low: float = 0.93
    min_event_recall: float = 0.95
    max_invented_per_1000: float = 5.0
    max_size_mib: float = 200.0
    max_parity: float = 0.005
    max_slice_regression: float = 0.02
    licence: bool = True
    canary_first: bool = True


def refusals(
    opened: Release,
    report: Mapping[str, Any] | None,
    production: Mapping[str, Any] | None,
    gates: Gates,
) -> list[str]:
    """Why this release may not be promoted; empty when every gate lets it through."""
    out = _of_files(opened, gates)
    if report is None:
        return [*out, "it has no report: publish it with report=.../report.json"]
    if "tasks" in report:
        return out + _of_tasks(report, production, gates)
    name = gates.slice or "all"
    part, fall = report["extractor"].get(name), report["waterfall"].get(name)
    if part is None or fall is None:
        return [*out, f"its report has no slice {name!r}"]
    if part["f1"] < gates.min_agreement:
        out.append(f"agreement {part['f1']:.1%}, below min_agreement {gates.min_agreement:.1%}")
    if part["agreement_low"] < gates.min_agreement_low:
        out.append(
            f"agreement may be as low as {part['agreement_low']:.1%}, below min_agreement_low"
            f" {gates.min_agreement_low:.1%}"
        )
    recall = fall["found"] / max(1, fall["teacher"])
    if recall < gates.min_event_recall:
        out.append(
            f"event recall {recall:.1%}, below min_event_recall {gates.min_event_recall:.1%}"
        )
    if report["invented_per_1000"] > gates.max_invented_per_1000:
        out.append(
            f"{report['invented_per_1000']:.2f} invented events per 1,000 sentences, above"
            f" max_invented_per_1000 {gates.max_invented_per_1000:g}"
        )
    return out + (_regressions(report, production, gates) if production else [])


def _of_tasks(
    report: Mapping[str, Any], production: Mapping[str, Any] | None, gates: Gates
) -> list[str]:
    """Reasons of a release of several tasks: each must agree, and be no worse than production."""
    out: list[str] = []
    old = {
        (one["task"], one["source"]): one["student"] for one in (production or {}).get("tasks", ())
    }
    for one in report["tasks"]:
        name, f1 = f"{one['task']} ({one['source']})", one["student"]["f1"]
        if f1 < gates.min_agreement:
            out.append(f"{name}: F1 {f1:.1%}, below min_agreement {gates.min_agreement:.1%}")
        before = old.get((one["task"], one["source"]))
        if before and f1 < before["f1"] - gates.max_slice_regression:
            out.append(
                f"{name}: F1 {f1:.1%} where production has {before['f1']:.1%}, more than"
                f" max_slice_regression {gates.max_slice_regression:.1%} below"
            )
    return out


def _of_files(opened: Release, gates: Gates) -> list[str]:
    """Reasons that need no report: size, parity with the master, licence."""
    out: list[str] = []
    size = sum(file.stat().st_size for file in opened.folder.rglob("*") if file.is_file()) / 2**20
    if size > gates.max_size_mib:
        out.append(f"{size:.1f} MiB, above max_size_mib {gates.max_size_mib:g}")
    parity = opened.manifest.metrics.get("parity")
    if parity is None:
        out.append("nothing says how far the quantised extractor differs from its master")
    elif parity["disagree"] > gates.max_parity:
        out.append(
            f"quantised and master differ on {parity['disagree']:.2%} of {parity['rows']} records,"
            f" above max_parity {gates.max_parity:.2%}"
        )
    if gates.licence and not opened.manifest.licence:
        out.append("no licence is stated: publish with licence=...")
    return out


def _regressions(
    report: Mapping[str, Any], production: Mapping[str, Any], gates: Gates
) -> list[str]:
    """Slices in which even the best case is further below production than is allowed."""

    def slices(made: Mapping[str, Any]) -> dict[str, dict[str, float]]:
        found = {f"{one['kind']} {one['part']}": one["f1"] for one in made.get("slices", [])}
        types = {f"event type {one['part']}": one["f1"] for one in made.get("event_types", [])}
        return found | types

    new, old = slices(report), slices(production)
    return [
        f"{name}: at best {new[name]['high']:.1%} where production has {old[name]['value']:.1%},"
        f" more than max_slice_regression {gates.max_slice_regression:.1%} below"
        for name in old
        if name in new and new[name]["high"] < old[name]["value"] - gates.max_slice_regression
    ]
