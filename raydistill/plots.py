"""Plots of the report, as SVG that takes its colours from the page around it (light or dark)."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Drawn in these, replaced by the page's own: an SVG inside HTML can follow its style sheet.
_TEXT, _LINE, _MAIN, _SECOND, _SOFT = "#010101", "#020202", "#030303", "#040404", "#050505"
_THEME = {
    _TEXT: "var(--muted)",
    _LINE: "var(--line)",
    _MAIN: "var(--accent)",
    _SECOND: "var(--second)",
    _SOFT: "var(--soft)",
}


# As narrow as a phone: a wider drawing, shrunk to 350 pixels, has letters that nobody can read.
_WIDTH = 4.3
_SIZE = 8.5


def _axes(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0, colors=_TEXT, labelsize=_SIZE)
    axes.set_axisbelow(True)
    return figure, axes


def svg(figure: Figure, title: str) -> str:
    """The figure as an inline SVG element with a title for screen readers."""
    import matplotlib

    stream = io.StringIO()
    # Text stays text: small, selectable, in the page's own font.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r'<svg ([^>]*?)width="[^"]*"', r"<svg \1", text, count=1)
    text = re.sub(r'<svg ([^>]*?)height="[^"]*"', r"<svg \1", text, count=1)
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", text)
    for drawn, themed in _THEME.items():
        text = text.replace(drawn, themed)
    text = re.sub(r'id="(\w+)"', rf'id="{_slug(title)}-\1"', text)
    text = re.sub(r'"#(\w+)"', rf'"#{_slug(title)}-\1"', text)
    text = re.sub(r"url\(#(\w+)\)", rf"url(#{_slug(title)}-\1)", text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)


def _slug(title: str) -> str:
    return re.sub(r"\W+", "-", title.lower())


def _percent(axes: Axes, which: str) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(lambda value, _: f"{value:.0%}")


def falls(rates: Sequence[tuple[str, Mapping[str, float]]]) -> str:
    """Bars of what is left after each stage, each with its interval."""
    figure, axes = _axes(0.40 * len(rates) + 0.45)
    places = list(range(len(rates)))[::-1]
    for place, (_, one) in zip(places, rates, strict=True):
        axes.barh(place, 1.0, height=0.56, color=_SOFT)
        axes.barh(place, one["value"], height=0.56, color=_MAIN)
        axes.plot([one["low"], one["high"]], [place, place], color=_SECOND, linewidth=2.2)
        axes.text(1.015, place, f"{one['value']:.1%}", va="center", fontsize=_SIZE, color=_TEXT)
    axes.set_yticks(places, [name for name, _ in rates])
    axes.set_xlim(0, 1.12)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1.0])
    _percent(axes, "x")
    return svg(figure, "Events kept by each stage")


Line = tuple[str, Mapping[str, float] | None]


def dots(lines: Sequence[Line], title: str) -> str:
    """One point a line with its interval: slices and event types. A line without is a heading."""
    figure, axes = _axes(0.22 * len(lines) + 0.4)
    places = list(range(len(lines)))[::-1]
    for place, (_, one) in zip(places, lines, strict=True):
        if one is not None:
            axes.plot([one["low"], one["high"]], [place, place], color=_LINE, linewidth=4)
            axes.plot([one["value"]], [place], "o", color=_MAIN, markersize=5)
    axes.set_yticks(places, [name for name, _ in lines])
    for label, (_, one) in zip(axes.get_yticklabels(), lines, strict=True):
        label.set_fontweight("bold" if one is None else "normal")
    axes.set_xlim(-0.02, 1.02)
    axes.xaxis.grid(True, color=_LINE, linewidth=0.6)
    axes.set_ylim(-0.7, len(lines) - 0.3)
    _percent(axes, "x")
    return svg(figure, title)


def skip(curve: Mapping[str, Any]) -> str:
    """Events kept against sentences extracted, with the chosen threshold marked."""
    figure, axes = _axes(2.9)
    points = sorted(curve["points"], key=lambda one: one["extracted"])
    axes.plot(
        [one["extracted"] for one in points],
        [one["events"] for one in points],
        color=_MAIN,
        linewidth=2.2,
    )
    for one in points:
        if one["threshold"] == curve["threshold"]:
            axes.plot([one["extracted"]], [one["events"]], "o", color=_SECOND, markersize=8)
            axes.annotate(
                f"chosen: {one['events']:.1%} of events\nfrom {one['extracted']:.1%} of sentences",
                (one["extracted"], one["events"]),
                xytext=(12, -34),
                textcoords="offset points",
                fontsize=_SIZE,
                color=_TEXT,
            )
    axes.set_xlabel("sentences that reach the extractor", fontsize=_SIZE, color=_TEXT)
    axes.set_ylabel("teacher events kept", fontsize=_SIZE, color=_TEXT)
    axes.grid(True, color=_LINE, linewidth=0.6)
    _percent(axes, "x")
    _percent(axes, "y")
    return svg(figure, "Skip threshold")


def reliability(bins: Sequence[Mapping[str, float]]) -> str:
    """Agreement against the probability that was stated, bin by bin, with exact intervals."""
    figure, axes = _axes(3.0)
    axes.plot([0, 1], [0, 1], color=_LINE, linewidth=1.4, linestyle="--")
    for one in bins:
        place = one["probability"]
        axes.plot([place, place], [one["low"], one["high"]], color=_SECOND, linewidth=1.6)
    axes.plot(
        [one["probability"] for one in bins],
        [one["agreed"] for one in bins],
        "o-",
        color=_MAIN,
        linewidth=1.6,
        markersize=5,
    )
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("agreement_probability stated", fontsize=_SIZE, color=_TEXT)
    axes.set_ylabel("answers that agree", fontsize=_SIZE, color=_TEXT)
    axes.grid(True, color=_LINE, linewidth=0.6)
    _percent(axes, "x")
    _percent(axes, "y")
    return svg(figure, "Reliability of agreement_probability")


def abstain(points: Sequence[Mapping[str, float]]) -> str:
    """Agreement of the student's own answers and of all, against the cost of asking again."""
    figure, axes = _axes(3.0)
    costs = [1000 * one["cost"] for one in points]
    axes.plot(costs, [one["agreement"] for one in points], color=_MAIN, linewidth=2.2)
    axes.plot(costs, [one["kept"] for one in points], color=_SECOND, linewidth=1.8)
    middle = len(points) // 3
    for name, word, aside, edge in (
        ("agreement", "all answers", (-5, 5), "right"),
        ("kept", "the student's own", (5, -12), "left"),
    ):
        axes.annotate(
            word, (costs[middle], points[middle][name]), xytext=aside, ha=edge,
            textcoords="offset points", fontsize=_SIZE, color=_TEXT,
        )  # fmt: skip
    axes.set_xlabel("US$ for 1,000 filings, teacher included", fontsize=_SIZE, color=_TEXT)
    axes.set_ylabel("whole answers that agree", fontsize=_SIZE, color=_TEXT)
    axes.grid(True, color=_LINE, linewidth=0.6)
    _percent(axes, "y")
    return svg(figure, "Abstaining")


def running(steps: Sequence[Mapping[str, float]], bar: float) -> str:
    """A confidence sequence as it narrows, and the bar it is tested against."""
    figure, axes = _axes(2.6)
    start = {"rows": 0.0, "value": steps[0]["value"], "low": 0.0, "high": 1.0}
    steps = [start, *steps]  # before the first sentence anything was possible
    rows = [one["rows"] for one in steps]
    axes.fill_between(
        rows, [one["low"] for one in steps], [one["high"] for one in steps], color=_SOFT
    )
    axes.plot(rows, [one["value"] for one in steps], color=_MAIN, linewidth=2.2)
    axes.axhline(bar, color=_SECOND, linewidth=1.4, linestyle="--")
    axes.annotate(
        f"bar {bar:.0%}", (rows[-1], bar), xytext=(-4, 4), textcoords="offset points",
        ha="right", fontsize=_SIZE, color=_TEXT,
    )  # fmt: skip
    axes.set_xlabel("sentences with an event on either side", fontsize=_SIZE, color=_TEXT)
    axes.set_ylabel("agreement", fontsize=_SIZE, color=_TEXT)
    axes.yaxis.grid(True, color=_LINE, linewidth=0.6)
    _percent(axes, "y")
    return svg(figure, "Agreement as it was measured")


def learning(points: Sequence[Mapping[str, Any]]) -> str:
    """F1 of records and agreement of whole answers against training rows, with intervals."""
    figure, axes = _axes(2.9)
    rows = [one["rows"] for one in points]
    for name, word, colour in (
        ("agreement", "whole answers", _SECOND),
        ("f1", "F1 of records", _MAIN),
    ):
        for one in points:
            axes.plot([one["rows"]] * 2, [one[name]["low"], one[name]["high"]], color=colour)
        axes.plot(rows, [one[name]["value"] for one in points], "o-", color=colour, linewidth=2.0)
        axes.annotate(
            word, (rows[-1], points[-1][name]["value"]), xytext=(-6, 7),
            textcoords="offset points", ha="right", fontsize=_SIZE, color=_TEXT,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xticks(rows, [f"{one:,}" for one in rows])
    axes.minorticks_off()
    axes.set_xlabel("training rows", fontsize=_SIZE, color=_TEXT)
    axes.set_ylabel("agreement with the teacher", fontsize=_SIZE, color=_TEXT)
    axes.grid(True, color=_LINE, linewidth=0.6)
    _percent(axes, "y")
    return svg(figure, "Learning curve")
