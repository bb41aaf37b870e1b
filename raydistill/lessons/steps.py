"""The steps of build after reading, each on one bucket or shard, for any number of processes.

    teacher rows ─► by text ─┐
                             ├─► one label a text ─► choose ─► by place in the output ─► write
    sentences ────► by text ─┘

A step is a plain picklable object called with a number; it reads and writes files under one work
folder and returns what the driver counts.
"""

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as compute
import pyarrow.parquet as pq

from raydistill.answer import Answer
from raydistill.dataset import SCHEMA, SPLITS
from raydistill.lessons import audit, corrections, dedup, spill, teacher, variations
from raydistill.lessons.apart import HeldOut
from raydistill.lessons.plan import BOILERPLATE, EASY, EVENT, HARD, SAMPLE_SALT, Plan, bucket_file
from raydistill.lessons.spill import Keys
from raydistill.stages.prefilter import Prefilter
from raydistill.task import Task
from raydistill.tasks import TASKS

pc: Any = compute

REJECTS = pa.schema([(n, pa.string()) for n in ("id", "code", "detail", "text", "raw")])


@dataclass(slots=True)
class Labelled:
    """What a bucket holds: counts, codes of rejects, and rows to learn keywords from."""

    counts: Counter[str]
    rejects: Counter[str]
    ids: Keys
    sample: pa.Table
    corrected: list[str]  # ids of the reviewed sentences whose label is a person's


@dataclass(frozen=True, slots=True)
class Label:
    """One label for each text of a bucket; writes its examples and its rejects."""

    plan: Plan
    sample_rate: tuple[float, float]  # of texts with an event, and without

    def __call__(self, bucket: int) -> Labelled:
        counts: Counter[str] = Counter()
        table, rejected = self._said(bucket, counts)
        pq.write_table(
            rejected.select(REJECTS.names), self.plan.folder("rejects") / f"{bucket:06}.parquet"
        )
        # Before the vote: every copy of a reviewed text says the same, so the person wins.
        table, corrected = corrections.apply(table, self.plan.corrections)
        decided = self._decided(table, _seen(rejected))
        counts["undecided"] = _copies(table) - _copies(decided)
        table, voted = teacher.voted(decided)
        counts.update(voted)
        split = self.plan.splits.of(table["group"].to_pylist(), table["day"].to_pylist())
        counts["no_date"] += int((split < 0).sum())
        table = table.append_column("split", pa.array(split)).filter(pa.array(split >= 0))
        counts["events"] += int(np.asarray(table["keep"]).sum())
        counts["nothing"] += len(table) - int(np.asarray(table["keep"]).sum())
        with (
            pa.OSFile(str(bucket_file(self.plan, "labelled", bucket)), "wb") as sink,
            pa.ipc.new_file(sink, table.schema) as writer,
        ):
            writer.write_table(table.combine_chunks())
        codes = Counter(rejected["code"].to_pylist())
        ids = spill.keys(table.filter(table["keep"])["id"].to_pylist())
        return Labelled(counts, codes, ids, self._sample(table), corrected)

    def _said(self, bucket: int, counts: Counter[str]) -> tuple[pa.Table, pa.Table]:
        """What the teacher said of the bucket's sentences, silence too; and what is rejected."""
        task = TASKS[self.plan.task]
        said = pa.Table.from_batches(spill.read(self.plan.files("teacher"), bucket))
        good, rejected = self._rescued(*teacher.answers(said, task, self.plan.floor))
        counts["sentences"] += len(good) + len(rejected)
        counts["rejected"] += len(rejected)
        table = good.drop_columns(["id_key", "reading", "at"])
        if files := self.plan.files("sentences"):
            silent = _silent(pa.Table.from_batches(spill.read(files, bucket)), task)
            counts["without_answer"] += _copies(silent)
            table = pa.concat_tables([table, silent.select(table.column_names)])
        return table, rejected

    def _rescued(self, good: pa.Table, bad: pa.Table) -> tuple[pa.Table, pa.Table]:
        """Rejected rows that a person has answered join the good ones, answered."""
        reviewed = [self.plan.corrections.has(text) for text in bad["text"].to_pylist()]
        if not any(reviewed):
            return good, bad
        known = pa.array(reviewed)
        fixed, _ = corrections.apply(bad.filter(known), self.plan.corrections)
        fixed = fixed.select(good.column_names).cast(good.schema)
        return pa.concat_tables([good, fixed]), bad.filter(pc.invert(known))

    def _decided(self, table: pa.Table, seen: Keys) -> pa.Table:
        """The rows without those that say nothing of a text in which the teacher saw an event.

        That event is not used (too unsure, or left out by a filter): such a text is no negative
        because another copy of it is silent. A person's word that there is none counts.
        """
        text = np.asarray(table["text_key"])
        left = spill.known(f"{self.plan.work}/left.npy")
        doubt = spill.contains(left, text) | spill.contains(np.sort(seen), text)
        doubt &= ~np.asarray(table["keep"])
        at = np.flatnonzero(doubt)
        words = table["text"].take(pa.array(at)).to_pylist()
        doubt[at] = [not self.plan.corrections.has(text) for text in words]
        return table.filter(pa.array(~doubt))

    def _sample(self, table: pa.Table) -> pa.Table:
        keep = np.asarray(table["keep"])
        drawn = spill.mixed(np.asarray(table["share"]), SAMPLE_SALT)
        take = np.where(keep, *(spill.below(drawn, rate) for rate in self.sample_rate))
        take = take & (np.asarray(table["split"]) != SPLITS.index("test"))
        return table.filter(pa.array(take)).select(["share", "text", "keep", "group", "random"])


def _copies(table: pa.Table) -> int:
    return int(np.asarray(table["copies"]).sum())


def _seen(rejected: pa.Table) -> Keys:
    """The texts of rejected rows that state an event, and of those whose filing is left out."""
    unknown = pc.equal(rejected["code"], "unknown_filing")
    return np.asarray(rejected.filter(pc.or_(rejected["keep"], unknown))["text_key"])


def _silent(table: pa.Table, task: Task) -> pa.Table:
    """Sentences as examples without an event."""
    empty = task.render(Answer())
    columns = (
        ("confidence", pa.repeat(pa.scalar(10, pa.int16()), len(table))),
        ("answer", pa.repeat(empty, len(table))),
        ("keep", pa.repeat(False, len(table))),
        ("records", pa.repeat(pa.scalar(0, pa.int16()), len(table))),
    )
    for name, column in columns:
        table = table.append_column(name, column)
    return table


def labelled(plan: Plan, bucket: int) -> pa.Table:
    """The examples that Label wrote."""
    return pa.ipc.open_file(pa.memory_map(str(bucket_file(plan, "labelled", bucket)))).read_all()


@lru_cache(maxsize=1)
def _prefilter(words: tuple[str, ...]) -> Prefilter:
    return Prefilter(words)


@dataclass(slots=True)
class Classified:
    """For each example of a bucket its place and kind; and what passes of the test companies."""

    share: Keys
    kind: npt.NDArray[np.int8]
    tested: pa.Table  # group, keep, passed: rows of test companies drawn at random


@dataclass(frozen=True, slots=True)
class Classify:
    """Sorts the examples without an event: boilerplate, hard (the prefilter passes them), easy."""

    plan: Plan
    words: tuple[str, ...]

    def __call__(self, bucket: int) -> Classified:
        table = labelled(self.plan, bucket)
        passed = np.asarray(_prefilter(self.words).mask(table["text"]), np.bool_)
        kind = np.where(passed, HARD, EASY).astype(np.int8)
        kind[np.asarray(table["repeats"]) >= self.plan.repeats] = BOILERPLATE
        kind[np.asarray(table["keep"])] = EVENT
        np.save(self.plan.folder("labelled") / f"{bucket:06}.npy", np.stack([kind, passed]))
        test = (np.asarray(table["split"]) == SPLITS.index("test")) & np.asarray(table["random"])
        tested = table.select(["group", "keep"]).append_column("passed", pa.array(passed))
        tested = tested.filter(pa.array(test))
        return Classified(np.asarray(table["share"]), kind, tested)


@dataclass(slots=True)
class Chosen:
    """The chosen examples of a bucket, in the order of their files."""

    share: Keys
    split: npt.NDArray[np.int8]
    keep: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Choose:
    """Takes the events, and each kind of the others up to a place; spills them by place.

    Writes their signatures for the search of near-duplicates.
    """

    plan: Plan
    limits: tuple[int, ...]  # BOILERPLATE, HARD, EASY, EVENT: the last place taken
    shards: int

    def __call__(self, bucket: int) -> Chosen:
        table = labelled(self.plan, bucket)
        kind, passed = np.load(self.plan.folder("labelled") / f"{bucket:06}.npy")
        share = np.asarray(table["share"])
        take = share <= np.array(self.limits, np.uint64)[kind]
        table = table.append_column("kind", pa.array(kind))
        table = table.append_column("passed", pa.array(passed != 0)).filter(pa.array(take))
        table = table.append_column("row", pa.array(np.arange(len(table), dtype=np.int64)))
        table = table.append_column("bucket", pa.repeat(np.int32(bucket), len(table)))
        signature, bands = dedup.signatures(table["text"].to_pylist())
        np.save(self.plan.folder("signatures") / f"{bucket:06}.npy", signature)
        np.save(self.plan.folder("bands") / f"{bucket:06}.npy", bands)
        shard = spill.buckets_of(share[take], self.shards)
        spill.write(bucket_file(self.plan, "chosen", bucket), table, shard, self.shards)
        columns = (np.asarray(table[name]) for name in ("share", "split", "keep"))
        return Chosen(*columns)


@dataclass(slots=True)
class Written:
    """What a shard of the output holds, by split."""

    rows: dict[str, int]
    events: dict[str, int]
    groups: dict[str, set[str]]
    kinds: Counter[tuple[str, int]]
    types: dict[str, dict[str, Counter[str]]]  # split, field, value
    suspects: list[dict[str, Any]]
    varied: int = 0  # rows of train that are varied copies of others
    varied_dropped: int = 0  # copies that came out like a row of val or test


@dataclass(frozen=True, slots=True)
class Write:
    """Writes a shard of every split, rows by place, without near-duplicates."""

    plan: Plan
    starts: tuple[int, ...]  # the first row of each bucket
    scored: float  # share of the rows that the audit's model looks at

    def __call__(self, shard: int) -> Written:
        task = TASKS[self.plan.task]
        files = self.plan.files("chosen")
        table = pa.Table.from_batches(spill.read(files, shard))
        number = np.array(self.starts)[np.asarray(table["bucket"])] + np.asarray(table["row"])
        near = np.load(f"{self.plan.work}/near.npy", mmap_mode="r")
        disputed = np.load(f"{self.plan.work}/disputed.npy", mmap_mode="r")
        table = table.append_column("disputed", pa.array(spill.contains(disputed, number)))
        table = table.filter(pa.array(near[number] < 0))
        order = np.lexsort((np.asarray(table["text_key"]), np.asarray(table["share"])))
        table = table.take(pa.array(order))
        models = np.load(f"{self.plan.work}/models.npy")
        suspects = audit.suspects(table, task, models, self.scored)
        made = Written({}, {}, {}, Counter(), {}, suspects)
        for at, name in enumerate(SPLITS):
            part = table.filter(pc.equal(table["split"], at))
            if name == "train" and self.plan.variations:
                copies, made.varied_dropped = self._varied(part, task)
                made.varied, part = len(copies), pa.concat_tables([part, copies])
            said = part.filter(part["keep"])
            made.rows[name], made.events[name] = len(part), len(said)
            made.groups[name] = set(part["group"].to_pylist())
            made.kinds.update((name, kind) for kind in part["kind"].to_pylist())
            values = teacher.first_values(said["answer"].to_pylist(), task)
            made.types[name] = {field: Counter(each) for field, each in values.items()}
            folder = self.plan.folder(f"splits/{name}")
            if len(part) or not shard:
                pq.write_table(examples(part, task.name), folder / f"{shard:05}.parquet")
        return made

    def _varied(self, part: pa.Table, task: Task) -> tuple[pa.Table, int]:
        """Copies of rows with an event under other names, amounts and dates, and how many more were
        made and dropped."""
        plan = self.plan
        events = part.filter(part["keep"])
        copies = variations.varied(events, task, plan.variations, plan.seed)
        held_out = HeldOut.read(Path(plan.work))
        like = held_out.like(copies["text"].to_pylist(), plan.near)
        return copies.filter(pa.array(~like)), int(like.sum())


def examples(table: pa.Table, task: str) -> pa.Table:
    """The rows as a dataset keeps them: SCHEMA."""
    columns: dict[str, Any] = {
        "task": pa.repeat(task, len(table)),
        "year": pc.year(table["day"]).cast(pa.int16()),
    }
    return pa.table(
        {name: columns[name] if name in columns else table[name] for name in SCHEMA.names},
        schema=SCHEMA,
    )
