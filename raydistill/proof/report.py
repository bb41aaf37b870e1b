"""The report of an evaluation: one self-contained HTML page, with JSON and Markdown beside it.

The page needs no network and no script; it reads on a phone, in light and dark.
"""

import json
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from raydistill import plots

STAGES = {
    "candidates": "prefilter",
    "glanced": "glance",  # not every release has one
    "kept": "skip",
    "found": "extract: event found",
    "right": "extract: all fields right",
}


def write(folder: Path, made: Mapping[str, Any]) -> None:
    """Writes report.html, report.md and, last, report.json, each under a temporary name first."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "report.html": page(made),
        "report.md": markdown(made),
        "report.json": json.dumps(made, indent=2, ensure_ascii=False),
    }
    for name, text in files.items():
        replaced(folder / name, text)


def replaced(file: Path, text: str) -> None:
    """Writes a file so that a reader sees the old one or the new one, never a half."""
    temporary = file.with_name(file.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.rename(file)


@lru_cache(maxsize=1)
def environment() -> Environment:
    """The templates of the package; everything is escaped unless it says otherwise."""
    found = Environment(
        loader=PackageLoader("raydistill.proof", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "percent": percent,
        "span": span,
        "whole": lambda value: f"{value:,.0f}",
        "money": money,
        "duration": lambda value: f"{value:,.3g}",
        "pvalue": pvalue,
    }
    return found


def template(name: str) -> Template:
    """A page's template by file name."""
    return environment().get_template(name)


def percent(value: float, digits: int = 1) -> str:
    """0.957 as `95.7%`."""
    return f"{100 * value:.{digits}f}%"


def span(one: Mapping[str, float], digits: int = 1) -> str:
    """An interval as `93.1–97.2`, in percent."""
    return f"{100 * one['low']:.{digits}f}–{100 * one['high']:.{digits}f}"


def money(value: float) -> str:
    """Dollars with as many digits as matter."""
    digits = 2 if value >= 0.1 or value <= 0 else 1 - math.floor(math.log10(value))
    return f"${value:,.{digits}f}"


def pvalue(value: float) -> str:
    """A p-value as people write it."""
    return "< 0.0001" if value < 0.0001 else f"{value:.2g}"


def page(made: Mapping[str, Any]) -> str:
    """The report as one HTML document."""
    falls = made["waterfall"][headline(made)]["rates"]
    lines = sliced(made["slices"])
    drawn = {
        "waterfall": plots.falls([(word, falls[name]) for name, word in _stages(made).items()]),
        "slices": plots.dots(lines, "Agreement by slice"),
        "types": plots.dots(
            # As many as there are lines beside them.
            [(counted(one), one["f1"]) for one in made["event_types"][: max(10, len(lines))]],
            "Agreement by event type",
        ),
        "skip": plots.skip(made["skip_curve"]),
        **_calibration(made["calibration"]),
        "curve": plots.learning(made["curve"]) if made["curve"] else "",
    }
    return template("report.html.j2").render(
        made=made,
        drawn=drawn,
        head=headline(made),
        stages=_stages(made),
        before=before,
        mistakes=mistakes(made),
    )


def _stages(made: Mapping[str, Any]) -> dict[str, str]:
    """The stages that the release has, by their names in the waterfall."""
    there = made["waterfall"]["all"]
    return {name: word for name, word in STAGES.items() if name in there}


def _calibration(found: Mapping[str, Any]) -> dict[str, str]:
    if found["test"] is None:
        return {"reliability": "", "abstain": ""}
    return {
        "reliability": plots.reliability(found["test"]["bins"]),
        "abstain": plots.abstain(found["curve"]),
    }


def sliced(slices: Sequence[Mapping[str, Any]]) -> list[plots.Line]:
    """The lines of a plot of slices: each kind as a heading, its parts below it."""
    lines: list[plots.Line] = []
    kind = None
    for one in slices:
        if one["kind"] != kind:
            kind = one["kind"]
            lines.append(("your slices" if kind == "named" else kind, None))
        lines.append((counted(one), one["f1"]))
    return lines


def counted(one: Mapping[str, Any]) -> str:
    """A part's name and its events."""
    return f"{one['part']} ({one['events']:,})"


def headline(made: Mapping[str, Any]) -> str:
    """The slice the first figures are of: phrasings seen in training where they are told apart."""
    return "seen phrasings" if "seen phrasings" in made["extractor"] else "all"


def before(stage: int, fall: Mapping[str, Any]) -> int:
    """The events that reach a stage of the waterfall, by its place among those there are."""
    there = [name for name in STAGES if name in fall]
    return fall["teacher"] if stage == 0 else fall[there[stage - 1]]


def mistakes(made: Mapping[str, Any]) -> list[tuple[str, int, str]]:
    """The kinds of mistake of the whole cascade: name, count, what it means."""
    one = made["sides"]["student"]
    return [
        ("omitted", one["omitted"], "events of the teacher's that the student did not give"),
        ("invented", one["invented"], "events that only the student gave"),
        ("wrong value", one["wrong_value"], "the same event with another value in some field"),
        ("no answer", sum(one["errors"].values()), "answers that did not parse, kept as errors"),
    ]


def markdown(made: Mapping[str, Any]) -> str:
    """The report's tables as Markdown."""
    lines = [f"# {made['release']} against its teacher", ""]
    lines += [
        f"{made['rows']:,} sentences of {made['companies']:,} companies, split {made['split']},"
        f" dataset {made['dataset']}. Intervals are 95 %, companies resampled.",
        "",
    ]
    lines += grid(
        ("promise", "measured", "kept"),
        [(p["promise"], p["measured"], "yes" if p["kept"] else "no") for p in made["promises"]],
    )
    lines += ["## Side by side", ""]
    head = ("answerer", "sentences", "F1", "precision", "recall", "invented per 1,000", "errors")
    lines += grid(head, [_side_row(name, one) for name, one in made["sides"].items()])
    for name, one in made["against"].items():
        lines.append(
            f"- student less {name}: {one['difference']:+.1%} ({one['low']:+.1%} to"
            f" {one['high']:+.1%}), McNemar p {pvalue(one['p'])}"
        )
    lines += ["", "## Waterfall", ""]
    rows: list[tuple[str, ...]] = []
    stages = _stages(made)
    for name, fall in made["waterfall"].items():
        kept = (f"{fall['rates'][s]['value']:.1%} ({span(fall['rates'][s])})" for s in stages)
        rows.append((name, f"{fall['teacher']:,}", *kept))
    lines += grid(("slice", "teacher events", *stages.values()), rows)
    lines += ["## Fields, where both have the event", ""]
    fields = made["sides"]["student"]["fields"]
    lines += grid(
        ("field", "equal", "the teacher with himself"),
        [(name, f"{v:.1%}", _ceiling(made, name)) for name, v in fields.items()],
    )
    lines += ["## How sure its answers are", "", *_settings(made["calibration"])]
    lines += ["## Slices", ""]
    lines += grid(
        ("kind", "part", "events", "F1", "95 %"),
        [
            (s["kind"], s["part"], f"{s['events']:,}", f"{s['f1']['value']:.1%}", span(s["f1"]))
            for s in made["slices"]
        ],
    )
    return "\n".join(lines)


def _ceiling(made: Mapping[str, Any], name: str) -> str:
    return percent(made["ceiling"][name]) if name in made["ceiling"] else "not measured"


def _settings(found: Mapping[str, Any]) -> list[str]:
    """What is known of agreement_probability, and the abstain dial's settings."""
    if found["test"] is None:
        return ["No answer reached the extractor.", ""]
    test = found["test"]
    lines = [
        f"{found['kind'] or 'not calibrated'}: expected calibration error {test['ece']:.1%} on"
        f" {test['answers']:,} answers ({test['ece_of_chance']:.1%} by chance alone).",
        "",
    ]
    head = ("ask the teacher below", "asked", "own answers agree", "all agree", "1,000 filings")
    return lines + grid(
        head,
        [
            (
                f"{one['below']:.2f}",
                f"{one['asked']:.1%}",
                f"{one['kept']:.1%}",
                f"{one['agreement']:.1%}",
                money(1000 * one["cost"]),
            )
            for one in found["settings"]
        ],
    )


def _side_row(name: str, one: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        name,
        f"{one['rows']:,}",
        f"{one['f1']['value']:.1%} ({span(one['f1'])})",
        f"{one['precision']['value']:.1%}",
        f"{one['recall']['value']:.1%}",
        f"{one['invented_per_1000']['value']:.2f}",
        f"{sum(one['errors'].values()):,}",
    )


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table and an empty line after it."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return [line(head), line(["---"] * len(head)), *map(line, rows), ""]
