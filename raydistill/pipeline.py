"""The way of a sentence: which stages, in which order, for backfill, evaluation and tests alike.

A chunk goes in (see chunk.py). Rows without text pass every stage: markers, and rows that cannot be
processed, which lose their text and carry an error code.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute

from raydistill import keywords
from raydistill.calibration import Calibration
from raydistill.chunk import SENTENCES
from raydistill.errors import SetupError
from raydistill.release import Release, verify
from raydistill.stages import filters, glance
from raydistill.stages.prefilter import Prefilter
from raydistill.stages.routed import extractor
from raydistill.stages.skip import Skip

pc: Any = compute  # its functions are made at run time: no type checker sees them

MAX_CHARS = 20_000

Stage = Callable[[pa.Table], pa.Table]


class Guard:
    """Takes the text from rows that no stage may see, and says why in `error`."""

    def __init__(self, max_chars: int = MAX_CHARS) -> None:
        self.max_chars = max_chars

    def __call__(self, batch: pa.Table) -> pa.Table:
        """The same rows; bad ones with an error code and without text."""
        text, error = batch.column("text"), batch.column("error")
        missing = pc.and_(
            pc.and_(pc.is_null(text), pc.is_valid(batch.column("id"))), pc.is_null(error)
        )
        bad = [(missing, "no_text")]
        # Nearly always no text has more bytes than it may have characters, nor a NUL among them.
        if _holds_nul(text):
            bad.insert(0, (pc.match_substring(text, "\0"), "nul_byte"))
        if (pc.max(pc.binary_length(text)).as_py() or 0) > self.max_chars:
            bad.insert(0, (pc.greater(pc.utf8_length(text), self.max_chars), "too_long"))
        for mask, code in bad:
            error = pc.if_else(pc.fill_null(mask, False), code, error)
        text = pc.if_else(pc.is_valid(error), pa.scalar(None, pa.string()), text)
        for name, column in (("text", text), ("error", error)):
            batch = batch.set_column(batch.schema.get_field_index(name), name, column)
        return batch


def _holds_nul(texts: pa.ChunkedArray) -> bool:
    """Whether any text has a NUL byte, told from Arrow's own bytes: 20 times as fast as a search
    of each text. True, too, of texts that do not lie there as those of a chunk do."""
    if texts.type != pa.string():
        return True
    for part in texts.chunks:
        _, ends, data = part.buffers()
        if len(part) and data is not None:
            first, last = np.frombuffer(ends, np.int32)[[part.offset, part.offset + len(part)]]
            if not np.frombuffer(data, np.uint8)[first:last].all():
                return True
    return False


@dataclass(frozen=True, slots=True)
class Step:
    """One stage, and the names under which its output is counted and its seconds are added."""

    stage: Stage
    count: str | None
    seconds: str


@dataclass(frozen=True, slots=True)
class Decision:
    """Where one sentence's way ended: `keyword` or `skip` (dropped there), `extract` or `error`.

    `answer` and `spans` are the extractor's JSON, `score` the log-probability of its answer,
    `agreement_probability` how likely the teacher says the same, where the release can tell.
    """

    decision: str
    skip_score: float | None = None
    answer: str | None = None
    spans: str | None = None
    score: float | None = None
    agreement_probability: float | None = None
    error: str | None = None


class Part:
    """Steps with their account: a cascade is its parts one after another, wherever each runs."""

    def __init__(self, steps: Sequence[Step], before: Stage | None) -> None:
        self.steps, self.before = steps, before

    def __call__(self, batch: pa.Table) -> pa.Table:
        """The rows that are left, counts on their markers, seconds on the first of them."""
        table = batch
        counted: dict[str, dict[str, int]] = {}
        spent: dict[str, float] = {}
        if self.before:
            table = self.before(table)
            counted["sentences"] = _count(table)
        for step in self.steps:
            began = time.perf_counter()
            table = step.stage(table)
            spent[step.seconds] = time.perf_counter() - began
            if step.count:
                counted[step.count] = _count(table)
        return _accounted(table, counted, spent)


class Cascade:
    """The stages of one release, over one table of sentences at a time.

    Adds `skip_score`, `answer`, `spans`, `score`, `agreement_probability`; on markers TOLD, and
    on the first of them the seconds that each stage took.
    """

    def __init__(self, release: Path | Release, *, threads: int) -> None:
        opened = release if isinstance(release, Release) else verify(release)
        self.release = opened
        self.guard = Guard()
        self.filters = filters.of(opened.folder)
        self.steps = steps(opened, threads=threads)
        self.part = Part(self.steps, self.guarded)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """The rows that are left: answers, errors and markers."""
        return self.part(batch)

    def guarded(self, batch: pa.Table) -> pa.Table:
        """The same rows after the guard and the release's own filters."""
        return self.filters(self.guard(batch))

    def decide(self, texts: Sequence[str]) -> list[Decision]:
        """The decision for each sentence, by the same stages in the same order as `__call__`."""
        prefilter, look, skip, extract = (step.stage for step in self.steps)
        assert isinstance(skip, Skip)
        candidates = prefilter(self.guarded(numbered(texts)))
        scored = skip.scored(look(candidates))
        # What the glance drops is dropped as by the classifier, only without its score.
        scores = dict.fromkeys(candidates["id"].to_pylist())
        scores |= zip(scored["id"].to_pylist(), scored["skip_score"].to_pylist(), strict=True)
        out = [
            Decision("skip", scores[id]) if id in scores else Decision("keyword")
            for id in map(str, range(len(texts)))
        ]
        answered = extract(scored.filter(skip.keep(scored)))
        names = ("id", *Decision.__dataclass_fields__)
        for row in answered.select([n for n in names if n in answered.column_names]).to_pylist():
            at = int(row.pop("id"))
            out[at] = Decision("error" if row["error"] else "extract", **row)
        return out


def numbered(texts: Sequence[str]) -> pa.Table:
    """Sentences of no filing as a chunk without markers; their ids are 0, 1, 2, ..."""
    count = len(texts)
    columns = {
        "filing_id": pa.array([""] * count, pa.string()),
        "id": pa.array(map(str, range(count)), pa.string()),
        "position": pa.array(range(count), pa.int32()),
        "text": pa.array(texts, pa.string()),
        "error": pa.nulls(count, pa.string()),
    }
    return pa.table(columns, schema=SENTENCES)


STEPS = ("prefilter", "glance", "skip", "extract")
# What runs in one pool of actors: the glance is too cheap for a pool of its own.
PARTS = {"prefilter": ("prefilter", "glance"), "skip": ("skip",), "extract": ("extract",)}


def steps(release: Release, *, threads: int) -> list[Step]:
    """The stages of a release in order."""
    return [step(release, name, threads=threads) for name in STEPS]


def part(release: Release, name: str, *, threads: int) -> Part:
    """One part of a release's cascade, with no more loaded than it needs."""
    guard, own = Guard(), filters.of(release.folder)
    before: Stage | None = (lambda table: own(guard(table))) if name == "prefilter" else None
    return Part([step(release, one, threads=threads) for one in PARTS[name]], before)


def step(release: Release, name: str, *, threads: int) -> Step:
    """The step of this name in STEPS."""
    shapes, thresholds = release.manifest.shapes, release.manifest.thresholds
    if "skip" not in shapes:
        raise SetupError(
            f"the release {release.name} has no skip stage: it answers {release.manifest.task}",
            expected="a release of events",
            todo="ask it by questions.answering.answer, or set release=",
        )
    if name == "prefilter":
        return Step(Prefilter(keywords.read(release.keywords)), "candidates", "prefilter_s")
    if name == "glance":
        return Step(looking(release.folder, thresholds), "glanced", "glance_s")
    if name == "skip":
        skip = Skip(
            release.folder / "skip",
            threshold=thresholds["skip"],
            threads=threads,
            max_input=shapes["skip"]["max_input"],
        )
        return Step(skip, "kept", "skip_s")
    calibration = release.manifest.extra.get("calibration")
    extract = extractor(
        release.folder,
        release.task,
        shapes=shapes,
        thresholds=thresholds,
        specialists=release.manifest.extra.get("specialists"),
        threads=threads,
        calibration=Calibration(calibration) if calibration else None,
    )
    return Step(extract, None, "extract_s")


def looking(folder: Path, thresholds: Mapping[str, float]) -> Stage:
    """The glance in a release's folder, by its thresholds; one without lets everything pass."""
    threshold = thresholds.get("glance")
    if threshold is None:
        return everything
    sure = thresholds.get("sure", math.inf)
    return glance.Glance.load(folder / glance.FILE, threshold=threshold, sure=sure)


def everything(batch: pa.Table) -> pa.Table:
    """The batch itself: the stage in the place of one that there is not."""
    return batch


def _count(table: pa.Table) -> dict[str, int]:
    """Rows with text by filing."""
    filings = table.column("filing_id").filter(pc.is_valid(table.column("text")))
    return {one["values"]: one["counts"] for one in pc.value_counts(filings).to_pylist()}


def _accounted(
    table: pa.Table, counted: dict[str, dict[str, int]], seconds: dict[str, float]
) -> pa.Table:
    """The table with counts on its markers and seconds on the first of them."""
    is_marker = np.asarray(pc.is_null(table.column("id")))
    filings = table.column("filing_id").to_pylist()
    first = int(is_marker.argmax()) if is_marker.any() else -1
    for name in counted:
        values = [
            counted[name].get(f, 0) if m else None for f, m in zip(filings, is_marker, strict=True)
        ]
        table = table.append_column(name, pa.array(values, pa.int32()))
    for name in seconds:
        values = [seconds[name] if at == first else None for at in range(len(filings))]
        table = table.append_column(name, pa.array(values, pa.float32()))
    return table
