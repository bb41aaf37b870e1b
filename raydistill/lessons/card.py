"""Dataset cards: what is in a dataset, as a page that people read before they trust it.

Markdown with the front matter that the Hugging Face hub reads, counts, rejects and distributions,
and plots as PNG files beside it. One pass over the rows, in bounded memory.
"""

import json
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raydistill.dataset import SPLITS, Dataset

_TOP = 20
_INK, _BAR = "#333333", "#3b6ea5"
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"),
          (10**7, "1M<n<10M"), (10**8, "10M<n<100M"))  # fmt: skip


@dataclass(slots=True)
class Survey:
    """Counts over all rows of a dataset: of values by field, lengths, records, years, forms."""

    values: dict[str, Counter[str]] = field(default_factory=dict)
    lengths: Counter[int] = field(default_factory=Counter)
    records: Counter[int] = field(default_factory=Counter)
    years: Counter[int] = field(default_factory=Counter)
    forms: Counter[str] = field(default_factory=Counter)
    companies: dict[str, set[str]] = field(default_factory=dict)

    @property
    def straddling(self) -> int:
        """How many companies are in more than one split."""
        found = Counter(one for some in self.companies.values() for one in some)
        return sum(count > 1 for count in found.values())

    @property
    def rows(self) -> int:
        return self.lengths.total()

    def length(self, share: float) -> int:
        """The number of characters that this share of sentences does not pass."""
        seen = 0
        for length in sorted(self.lengths):
            seen += self.lengths[length]
            if seen >= share * self.rows:
                return length
        return 0


def survey(made: Dataset) -> Survey:
    """The counts of a dataset."""
    out = Survey(values={one.name: Counter() for one in made.task.fields})
    for split in SPLITS:
        companies = out.companies.setdefault(split, set())
        for batch in made.batches(split):
            for row in batch.select(["group", "text", "answer", "year", "form"]).to_pylist():
                companies.add(row["group"])
                value = json.loads(row["answer"])
                records = [value] if made.task.single else value.get(made.task.key, [])
                out.lengths[len(row["text"])] += 1
                out.records[len(records)] += 1
                if row["year"] is not None:
                    out.years[row["year"]] += 1
                out.forms[row["form"] or "not stated"] += 1
                for record in records:
                    for name, one in record.items():
                        told = "null" if one is None else str(one)
                        out.values.setdefault(name, Counter())[told] += 1
    return out


def write(
    made: Dataset,
    folder: Path,
    *,
    licence: str,
    data: Mapping[str, Mapping[str, str]] | None = None,
) -> Path:
    """Writes README.md and plots/ of a dataset into `folder`; gives the README's path.

    `data` names files by format and split, relative to `folder`, for the hub and for readers.
    """
    found = survey(made)
    plots = _plots(made, found, folder / "plots")
    parts = [_front(found, licence, data or {}), _intro(made, found, licence), _counts(made)]
    parts += [_rejects(made), _corrections(made), _distributions(made, found), _lengths(found)]
    parts += [f"![{title}](plots/{name}.png)" for name, title in plots]
    parts += [_loading(data)] if data else []
    file = folder / "README.md"
    file.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")
    return file


def _front(found: Survey, licence: str, data: Mapping[str, Mapping[str, str]]) -> str:
    size = next((name for limit, name in _SIZES if found.rows < limit), "n>100M")
    lines = ["---", "language: [en]", "task_categories: [token-classification, text-generation]"]
    lines += [f"size_categories: ['{size}']", "tags: [finance, sec-filings, distillation]"]
    lines += [f"license: {json.dumps(licence)}"] if licence else []
    lines += ["configs:"] if data else []
    for name, files in data.items():
        lines += [f"  - config_name: {name}", "    data_files:"]
        for split, file in files.items():
            lines += [f"      - split: {_HUB.get(split, split)}", f"        path: {file}"]
    return "\n".join([*lines, "---"])


_HUB = {"val": "validation"}


def _intro(made: Dataset, found: Survey, licence: str) -> str:
    manifest = made.manifest
    source = manifest.get("source") or {}
    lines = [
        f"# {made.task.name}",
        f"{found.rows:,} sentences of company filings and what a teacher model said of them. "
        + (f"{found.straddling:,} companies are" if found.straddling else "No company is")
        + " in more than one split.",
        f"- fingerprint: `{made.fingerprint}`; task `{made.task.fingerprint}`; seed"
        f" {manifest.get('seed', 'not stated')}",
        f"- licence: {licence or 'not stated: ask before you pass it on'}",
    ]
    if source:
        lines.append("- read from: " + ", ".join(f"{k} `{v}`" for k, v in source.items()))
    if manifest.get("filters"):
        lines.append(f"- filters: `{json.dumps(manifest['filters'], default=str)}`")
    if manifest.get("prefilter"):
        lines.append(f"- prefilter: `{json.dumps(manifest['prefilter'], default=str)}`")
    return "\n".join(lines[:1]) + "\n\n" + lines[1] + "\n\n" + "\n".join(lines[2:])


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in row) + " |" for row in lines)


def _cell(cell: Any) -> str:
    text = f"{cell:,}" if isinstance(cell, int) else str(cell)
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())


def _counts(made: Dataset) -> str:
    counts: dict[str, dict[str, int]] = made.manifest.get("counts", {})
    names = list(dict.fromkeys(name for one in counts.values() for name in one))
    rows = [[split, *(one.get(name, "") for name in names)] for split, one in counts.items()]
    return "## Splits\n\n" + _table(["split", *names], rows)


def _rejects(made: Dataset) -> str:
    rejects: dict[str, int] = made.manifest.get("rejects") or {}
    if not rejects:
        return "## Rejected teacher answers\n\nNone."
    rows = sorted(rejects.items(), key=lambda one: (-one[1], one[0]))
    return "## Rejected teacher answers\n\n" + _table(["code", "answers"], rows)


def _corrections(made: Dataset) -> str:
    said: dict[str, Any] = made.manifest.get("corrections") or {}
    if not said:
        return ""
    return (
        "## Checked by people\n\n"
        f"{said.get('applied', 0):,} sentences, of which {said.get('changed', 0):,} labels were"
        f" changed, by {len(said.get('reviewers', {})):,} reviewers."
    )


def _distributions(made: Dataset, found: Survey) -> str:
    parts = ["## Values"]
    for one in made.task.fields:
        held = found.values[one.name]
        total = held.total()
        if one.kind in ("span", "date", "number"):
            told = total - held["null"]
            parts.append(f"**{one.name}**: {told:,} of {total:,} have one.")
            continue
        rows = [[v, n, f"{n / total:.1%}"] for v, n in _top(held)]
        parts.append(f"**{one.name}** ({len(held):,} values)\n\n")
        parts[-1] += _table([one.name, "records", "share"], rows)
    rows = [[str(count), n] for count, n in sorted(found.records.items())]
    parts.append("**records in a sentence**\n\n" + _table(["records", "sentences"], rows))
    parts.append("**forms**\n\n" + _table(["form", "sentences"], _top(found.forms)))
    return "\n\n".join(parts)


def _top(held: Counter[str]) -> list[tuple[str, int]]:
    return sorted(held.items(), key=lambda one: (-one[1], one[0]))[:_TOP]


def _lengths(found: Survey) -> str:
    told = [f"{share:.0%}: {found.length(share):,}" for share in (0.5, 0.9, 0.99, 1.0)]
    return (
        f"## Lengths\n\nCharacters that this share of sentences does not pass: {', '.join(told)}."
    )


def _loading(data: Mapping[str, Mapping[str, str]]) -> str:
    files = {name: next(iter(one.values())) for name, one in data.items()}
    lines = ["## Loading"]
    if "alpaca" in files:
        lines.append('`{"instruction", "input", "output"}`, a line a sentence (Axolotl `alpaca`).')
    if "chat" in files:
        lines.append('`{"messages": [{"role", "content"}, ...]}` (Axolotl `chat_template`).')
    lines.append("LLaMA-Factory: `dataset_dir` is this folder, see `dataset_info.json`.")
    lines.append("Unsloth and TRL: `datasets.load_dataset` of this folder, configuration by name.")
    return "\n\n".join(lines)


def _plots(made: Dataset, found: Survey, folder: Path) -> list[tuple[str, str]]:
    """Writes the plots that the dataset has values for; gives (file name, title)."""
    folder.mkdir(parents=True, exist_ok=True)
    first = made.task.fields[0].name
    common = _top(found.values[first])[::-1]
    wanted = [("types", f"{first}, commonest", [v for v, _ in common], [n for _, n in common])]
    if scale := found.values.get("confidence"):
        known = Counter({int(value): n for value, n in scale.items() if value != "null"})
        wanted.append(("confidence", "teacher's confidence", *_columns(known)))
    longest = found.length(0.99)
    step = max(10, longest // 30)
    bins: Counter[int] = Counter()
    for length, count in found.lengths.items():
        bins[min(length, longest) // step * step] += count
    wanted.append(("lengths", "sentence length, characters", *_columns(bins, step)))
    wanted.append(("years", "year of filing", *_columns(found.years)))
    kept = [one for one in wanted if one[3]]
    for name, title, labels, counts in kept:
        _plot(folder / f"{name}.png", title, labels, counts, flat=name == "types")
    return [(name, title) for name, title, _, _ in kept]


def _columns(held: Counter[int], step: int = 1) -> tuple[list[str], list[int]]:
    """Labels and counts of every step between the least and the most, empty ones too."""
    values = range(min(held), max(held) + 1, step) if held else range(0)
    return [str(value) for value in values], [held[value] for value in values]


def _plot(file: Path, title: str, labels: list[str], counts: list[int], *, flat: bool) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 0.28 * len(labels) + 1.2 if flat else 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    places = range(len(labels))
    if flat:
        axes.barh(places, counts, color=_BAR)
        axes.set_yticks(places, labels, parse_math=False)  # "$" is no formula here
    else:
        axes.bar(places, counts, color=_BAR, width=0.9)
        every = max(1, len(labels) // 12)
        axes.set_xticks(places[::every], labels[::every], parse_math=False)
    axes.set_title(title, color=_INK, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.ticklabel_format(axis="x" if flat else "y", style="plain")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a glyph that the font lacks
        figure.savefig(file, dpi=110)
