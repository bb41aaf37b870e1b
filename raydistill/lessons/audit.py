"""The label audit: the examples whose labels most deserve a second look, and why.

Each reason is something that can be seen from the row, from its copies and near-duplicates, or from
what a plain model of words, fitted on other companies, expects. None of them proves an error.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from jinja2 import Environment

from raydistill.fields import Date, Span
from raydistill.lessons import spill
from raydistill.lessons.teacher import standard
from raydistill.task import Task

ROWS = 200
SCORED = 50_000  # rows that the model of words looks at, at most: 100 µs each
_FEATURES = 1 << 16
_SURE = 0.9
_FIT_ROWS = 15_000
_YEAR = re.compile(r"\b(?:19|20)\d\d\b")


def _words(texts: Sequence[Any]) -> Any:
    from sklearn.feature_extraction import text

    kind: Any = text.HashingVectorizer
    return kind(n_features=_FEATURES, ngram_range=(1, 2), dtype=np.float32).transform(texts)


def fold(groups: Sequence[str]) -> npt.NDArray[np.int64]:
    """The half (0 or 1) that each row's company belongs to."""
    return (spill.keys(groups) & np.uint64(1)).astype(np.int64)


def fit(
    texts: Sequence[str], keep: npt.NDArray[np.bool_], groups: Sequence[str], file: Path
) -> None:
    """Writes two models of words, each fitted on one half of the companies."""
    from sklearn import linear_model

    kind: Any = linear_model.SGDClassifier
    half = fold(groups)
    models = np.zeros((2, _FEATURES + 1), np.float32)
    for at in (0, 1):
        rows = np.flatnonzero(half == at)[:_FIT_ROWS].tolist()
        if not rows or keep[rows].all() or not keep[rows].any():
            continue
        model = kind(
            loss="log_loss", alpha=1e-5, max_iter=5, tol=None, random_state=0, average=True
        )
        model.fit(_words([texts[row] for row in rows]), keep[rows])
        models[at, :-1], models[at, -1] = model.coef_[0], model.intercept_[0]
    np.save(file, models)


def expected(
    texts: Sequence[str], groups: Sequence[str], models: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    """How likely each row has an event, by the other half's model (0.5: it knows nothing)."""
    out = np.full(len(texts), 0.5)
    half = fold(groups)
    for at in (0, 1):
        rows = np.flatnonzero(half != at).tolist()
        if rows and models[at].any():
            score = _words([texts[row] for row in rows]) @ models[at, :-1] + models[at, -1]
            out[rows] = 1 / (1 + np.exp(-np.clip(score, -50, 50)))
    return out


def suspects(
    table: pa.Table, task: Task, models: npt.NDArray[np.float32], rate: float
) -> list[dict[str, Any]]:
    """The most suspicious rows of a shard: `score reasons id group text answer`, worst first.

    The model looks at the first `rate` of the rows' places.
    """
    likely = np.full(len(table), 0.5)
    seen = np.flatnonzero(spill.below(spill.mixed(np.asarray(table["share"]), 7), rate))
    if len(seen):
        part = table.take(pa.array(seen))
        likely[seen] = expected(part["text"].to_pylist(), part["group"].to_pylist(), models)
    keep = np.asarray(table["keep"])
    surprise = np.abs(keep - likely)
    odd = surprise > _SURE
    for name in ("against", "disputed"):
        odd |= np.asarray(table[name]) > 0
    rows = np.flatnonzero(odd | keep)
    columns = ["id", "group", "text", "answer", "confidence", "against", "weight", "disputed"]
    found: list[dict[str, Any]] = []
    picked = table.select([*columns, "keep", "passed"]).take(pa.array(rows))
    for at, row in zip(rows.tolist(), picked.to_pylist(), strict=True):
        reasons = [*_of_copies(row), *_of_answer(row, task)]
        if surprise[at] > _SURE:
            expects = f"a model of words expects {'an' if likely[at] > 0.5 else 'no'} event"
            reasons.append((3 * float(surprise[at]), f"{expects} ({likely[at]:.0%})"))
        score = sum(weight for weight, _ in reasons)
        if score >= 1:
            one = {name: row[name] for name in ("id", "group", "text", "answer")}
            found.append({"score": round(score, 3), "reasons": [r for _, r in reasons], **one})
    return worst(found)


def worst(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The ROWS most suspicious of them."""
    return sorted(found, key=lambda one: (-one["score"], one["id"]))[:ROWS]


def _of_copies(row: Mapping[str, Any]) -> list[tuple[float, str]]:
    reasons: list[tuple[float, str]] = []
    if row["against"]:
        total = row["against"] + int(row["weight"])
        share = row["against"] / total
        reasons.append((2 + share, f"{row['against']} of {total} copies are labelled otherwise"))
    if row["disputed"]:
        reasons.append((2.0, "a near-duplicate says otherwise whether there is an event"))
    return reasons


def _of_answer(row: Mapping[str, Any], task: Task) -> list[tuple[float, str]]:
    if not row["keep"]:
        return []
    reasons: list[tuple[float, str]] = []
    if row["confidence"] <= 3:
        reasons.append((1.0, f"the teacher's confidence is {row['confidence']}"))
    if not row["passed"]:
        reasons.append((1.0, "an event, and no keyword"))
    for record in standard(row["answer"], task):
        for field in task.fields:
            value = record[field.name]
            if isinstance(field, Span) and value is not None and str(value) not in row["text"]:
                reasons.append((1.0, f"the {field.name} is not in the sentence"))
            if isinstance(field, Date) and value is not None:
                year = str(value)[:4]
                if _YEAR.search(row["text"]) and year not in row["text"]:
                    reasons.append((1.0, f"the {field.name}'s year {year} is not the sentence's"))
    return reasons


def write(folder: Path, found: Sequence[Mapping[str, Any]]) -> None:
    """Writes audit.jsonl and audit.html."""
    lines = [json.dumps(one, ensure_ascii=False) for one in found]
    (folder / "audit.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    page = Environment(autoescape=True).from_string(_PAGE)
    (folder / "audit.html").write_text(page.render(rows=found), encoding="utf-8")


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Label audit</title>
<style>
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
li { margin: 0 0 1.2rem; padding-bottom: 1rem; border-bottom: 1px solid #8884; }
q { quotes: none; display: block; } code { font-size: .85em; overflow-wrap: anywhere; }
.why { color: #b45309; } .id { opacity: .6; font-size: .85em; }
</style>
<h1>Label audit</h1>
<p>The {{ rows|length }} labels that most deserve a second look, and why. A reason is no proof.</p>
<ol>{% for row in rows %}
<li><q>{{ row.text }}</q><code>{{ row.answer }}</code>
<div class="why">{{ row.reasons|join("; ") }}</div>
<div class="id">{{ row.id }}, {{ row.group }}</div>
</li>{% endfor %}</ol>
</html>
"""
