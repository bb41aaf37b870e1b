"""The steps of build, each on one part of the rows, so that any number of processes can share them.

    read teacher rows ─► by text ─┐
                                  ├─► one label a text ─► choose ─► by place in the output ─► write
    read sentences ────► by text ─┘

A step is a plain picklable object called with a number; it reads and writes files under one work
folder and returns what the driver counts.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as compute
import pyarrow.parquet as pq

from raydistill import audit, dedup, rows, spill, teacher
from raydistill.answer import Answer
from raydistill.dataset import SCHEMA, SPLITS, split_of
from raydistill.stages.prefilter import Prefilter
from raydistill.tasks import TASKS

pc: Any = compute
Keys = npt.NDArray[np.uint64]

BOILERPLATE, HARD, EASY, EVENT = 0, 1, 2, 3
ROW_SALT, TEXT_SALT, SAMPLE_SALT = 0, 101, 102  # so that no choice depends on another
REJECTS = pa.schema([(n, pa.string()) for n in ("id", "code", "detail", "text", "raw")])
_KEYS = pa.schema(
    [
        ("text_key", pa.uint64()),
        ("share", pa.uint64()),  # the row's place in the output, 0 to 2**64
        ("filing_key", pa.uint64()),
        ("copies", pa.int32()),  # sentences that this row stands for
        ("filings", pa.int32()),  # and in how many filings
    ]
)


@dataclass(frozen=True, slots=True)
class Splits:
    """Where a row goes: by its company, or by its date."""

    seed: int
    val: float
    test: float
    holdout: frozenset[str] | None = None
    after: Any = None  # a date: rows from then on are test

    def of(self, groups: list[str], days: list[Any]) -> npt.NDArray[np.int8]:
        """For each row the number of its split in SPLITS; -1 where a date is needed and missing."""
        place: dict[str, int] = {}
        for group in set(groups):
            place[group] = self._of_company(group)
        where = np.array([place[group] for group in groups], np.int8)
        if self.after is not None:
            late = np.array([d is not None and d >= self.after for d in days], np.bool_)
            where[late] = SPLITS.index("test")
            where[np.array([d is None for d in days], np.bool_)] = -1
        return where

    def _of_company(self, group: str) -> int:
        if self.holdout is not None and group in self.holdout:
            return SPLITS.index("test")
        test = 0.0 if self.holdout is not None or self.after is not None else self.test
        return SPLITS.index(split_of(group, seed=self.seed, val=self.val, test=test))


@dataclass(frozen=True, slots=True)
class Plan:
    """What every step needs to know."""

    work: str
    task: str
    splits: Splits
    seed: int
    buckets: int
    floor: int
    repeats: int
    merge: Mapping[str, str] = field(default_factory=dict)

    def folder(self, name: str) -> Path:
        """A folder under the work folder, made where it is missing."""
        made = Path(self.work) / name
        made.mkdir(parents=True, exist_ok=True)
        return made

    def files(self, name: str) -> list[Path]:
        """The spilled files of a folder, in the order of their parts."""
        return sorted(self.folder(name).glob("*.arrow"))


def _bucket_file(plan: Plan, name: str, bucket: int) -> Path:
    return plan.folder(name) / f"{bucket:06}.arrow"


def _keyed(table: pa.Table, text_key: Keys, id_key: Keys, plan: Plan) -> pa.Table:
    """The columns that travel, and their keys; a row that is its own filing and copy."""
    one = pa.array(np.ones(len(table), np.int32))
    columns: dict[str, Any] = {
        "text_key": pa.array(text_key),
        "share": pa.array(spill.mixed(id_key, plan.seed + ROW_SALT)),
        "filing_key": pa.array(spill.keys(table["filing"].to_pylist())),
        "copies": one,
        "filings": one,
    }
    for name in ("id", "text", "group", "form", "day", "random"):
        columns[name] = table[name]
    return pa.table(columns)


@dataclass(frozen=True, slots=True)
class ReadTeacher:
    """Reads a part of the teacher's rows and spills their records by text; gives how many rows."""

    plan: Plan
    source: rows.Rows
    rate: float = 1.0  # share of sentences to take

    def __call__(self, numbered: tuple[int, Any]) -> int:
        part, where = numbered
        read = 0
        for piece, table in enumerate(self.source.tables(where)):
            at = np.arange(len(table), dtype=np.int64) + (part << 40) + read
            read += len(table)
            self._spill(table, at, f"{part:06}-{piece:04}")
        return read

    def _spill(self, table: pa.Table, at: npt.NDArray[np.int64], name: str) -> None:
        id_key = spill.keys(table["id"].to_pylist())
        if self.rate < 1:
            take = spill.below(spill.mixed(id_key, self.plan.seed + SAMPLE_SALT), self.rate)
            table, at, id_key = table.filter(pa.array(take)), at[take], id_key[take]
        texts = table["text"].to_pylist()
        blank = pa.array([not (text or "").strip() for text in texts], pa.bool_())
        lost = pc.coalesce(table["code"], pc.if_else(blank, "empty_sentence", None))
        found = teacher.records(table, TASKS[self.plan.task], self.plan.merge)
        row = found["row"]
        keyed = _keyed(table, spill.text_keys(texts), id_key, self.plan).take(row)
        code = pc.coalesce(lost.take(row), found["code"])
        keyed = (
            keyed.append_column("id_key", pa.array(id_key).take(row))
            .append_column("reading", pa.array(spill.keys(table["reading"].to_pylist())).take(row))
            .append_column("at", pa.array(at).take(row))
            .append_column("record", pc.if_else(code.is_valid(), None, found["record"]))
            .append_column("confidence", found["confidence"])
            .append_column("code", code)
            .append_column("detail", found["detail"])
            .append_column("raw", _given(table, row, code))
        )
        folder = self.plan.folder("teacher")
        np.save(folder / f"{name}.ids.npy", np.unique(id_key))
        np.save(folder / f"{name}.texts.npy", np.unique(np.asarray(keyed["text_key"])))
        bucket = spill.buckets_of(np.asarray(keyed["text_key"]), self.plan.buckets)
        spill.write(folder / f"{name}.arrow", keyed, bucket, self.plan.buckets)


def _given(table: pa.Table, row: Any, code: Any) -> pa.Array:
    """What the teacher wrote, for rows that are lost: rejects are kept as they came."""
    out: list[str | None] = [None] * len(row)
    skip = {name for name in rows.TRAVEL.names if name not in ("id",)}
    numbers = row.to_pylist()
    for place in np.flatnonzero(np.asarray(code.is_valid())).tolist():
        one = table.slice(numbers[place], 1).to_pylist()[0]
        raw = one.get("raw")
        rest = {k: v for k, v in one.items() if k not in skip}
        out[place] = raw if isinstance(raw, str) else teacher.json_text(rest)
    return pa.array(out, pa.string())


@dataclass(frozen=True, slots=True)
class ReadSentences:
    """Reads a part of the sentences and spills those the teacher has read and found nothing in.

    Kept are all copies of a share of the texts, and of every text that has an event elsewhere: so
    the copies of a text that are counted are all there are.
    """

    plan: Plan
    source: rows.Rows
    rate: float

    def __call__(self, numbered: tuple[int, Any]) -> tuple[int, int]:
        part, where = numbered
        read = kept = 0
        for piece, table in enumerate(self.source.tables(where)):
            read += len(table)
            kept += self._spill(table.filter(table["done"]), f"{part:06}-{piece:04}")
        return read, kept

    def _spill(self, table: pa.Table, name: str) -> int:
        work = self.plan.work
        id_key = spill.keys(table["id"].to_pylist())
        text_key = spill.text_keys(table["text"].to_pylist())
        keep = spill.below(spill.mixed(text_key, self.plan.seed + TEXT_SALT), self.rate)
        keep |= contains(_sorted_keys(f"{work}/texts.npy"), text_key)
        keep &= ~contains(_sorted_keys(f"{work}/ids.npy"), id_key)
        keep &= np.array([bool((t or "").strip()) for t in table["text"].to_pylist()], np.bool_)
        keyed = _keyed(table.filter(pa.array(keep)), text_key[keep], id_key[keep], self.plan)
        made = _once_each(keyed)
        bucket = spill.buckets_of(np.asarray(made["text_key"]), self.plan.buckets)
        folder = self.plan.folder("sentences")
        spill.write(folder / f"{name}.arrow", made, bucket, self.plan.buckets)
        return len(keyed)


@lru_cache(maxsize=2)
def _sorted_keys(file: str) -> Keys:
    return np.load(file, mmap_mode="r")


def contains(known: Keys, values: Keys) -> npt.NDArray[np.bool_]:
    """Which values are among the sorted `known` ones."""
    if not len(known):
        return np.zeros(len(values), np.bool_)
    at = np.minimum(np.searchsorted(known, values), len(known) - 1)
    return known[at] == values


def _once_each(table: pa.Table) -> pa.Table:
    """One row for each text, with its copies and filings counted: boilerplate has thousands."""
    if not len(table):
        return table
    text, filing = np.asarray(table["text_key"]), np.asarray(table["filing_key"])
    order = np.lexsort((np.asarray(table["share"]), text))
    new = np.r_[True, text[order][1:] != text[order][:-1]]
    number = np.cumsum(new) - 1
    first = order[new]
    made = table.take(pa.array(first))
    by_filing = np.unique(np.stack([text, filing]), axis=1)[0]
    filings = np.unique(by_filing, return_counts=True)[1]  # sorted by text, as `first` is
    for name, counts in (("copies", np.bincount(number)), ("filings", filings)):
        at = made.schema.get_field_index(name)
        made = made.set_column(at, name, pa.array(counts.astype(np.int32)))
    return made


@dataclass(slots=True)
class Labelled:
    """What a bucket holds: counts, codes of rejects, and rows to learn keywords from."""

    counts: Counter[str]
    rejects: Counter[str]
    ids: Keys
    sample: pa.Table


@dataclass(frozen=True, slots=True)
class Label:
    """One label for each text of a bucket; writes its examples and its rejects."""

    plan: Plan
    sample_rate: tuple[float, float]  # of texts with an event, and without

    def __call__(self, bucket: int) -> Labelled:
        task = TASKS[self.plan.task]
        counts: Counter[str] = Counter()
        parts: list[pa.Table] = []
        rejected = REJECTS.empty_table()
        if files := self.plan.files("teacher"):
            said = pa.Table.from_batches(spill.read(files, bucket))
            good, bad = teacher.answers(said, task, self.plan.floor)
            counts["sentences"] += len(good) + len(bad)
            counts["rejected"] += len(bad)
            rejected = bad.select(REJECTS.names)
            parts.append(good.drop_columns(["id_key", "reading", "at"]))
        if files := self.plan.files("sentences"):
            parts.append(_silent(pa.Table.from_batches(spill.read(files, bucket)), task))
            counts["without_answer"] += int(np.asarray(parts[-1]["copies"]).sum())
        pq.write_table(rejected, self.plan.folder("rejects") / f"{bucket:06}.parquet")
        table = pa.concat_tables([part.select(parts[0].column_names) for part in parts])
        table, voted = teacher.voted(table)
        counts.update(voted)
        split = self.plan.splits.of(table["group"].to_pylist(), table["day"].to_pylist())
        counts["no_date"] += int((split < 0).sum())
        table = table.append_column("split", pa.array(split)).filter(pa.array(split >= 0))
        counts["events"] += int(np.asarray(table["keep"]).sum())
        counts["nothing"] += len(table) - int(np.asarray(table["keep"]).sum())
        with (
            pa.OSFile(str(_bucket_file(self.plan, "labelled", bucket)), "wb") as sink,
            pa.ipc.new_file(sink, table.schema) as writer,
        ):
            writer.write_table(table.combine_chunks())
        codes = Counter(rejected["code"].to_pylist())
        ids = spill.keys(table.filter(table["keep"])["id"].to_pylist())
        return Labelled(counts, codes, ids, self._sample(table))

    def _sample(self, table: pa.Table) -> pa.Table:
        keep = np.asarray(table["keep"])
        drawn = spill.mixed(np.asarray(table["share"]), SAMPLE_SALT)
        take = np.where(keep, *(spill.below(drawn, rate) for rate in self.sample_rate))
        take = take & (np.asarray(table["split"]) != SPLITS.index("test"))
        return table.filter(pa.array(take)).select(["share", "text", "keep", "group", "random"])


def _silent(table: pa.Table, task: Any) -> pa.Table:
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
    return pa.ipc.open_file(pa.memory_map(str(_bucket_file(plan, "labelled", bucket)))).read_all()


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
        spill.write(_bucket_file(self.plan, "chosen", bucket), table, shard, self.shards)
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
        table = table.append_column("disputed", pa.array(contains(disputed, number)))
        table = table.filter(pa.array(near[number] < 0))
        order = np.lexsort((np.asarray(table["text_key"]), np.asarray(table["share"])))
        table = table.take(pa.array(order))
        models = np.load(f"{self.plan.work}/models.npy")
        suspects = audit.suspects(table, task, models, self.scored)
        made = Written({}, {}, {}, Counter(), {}, suspects)
        for at, name in enumerate(SPLITS):
            part = table.filter(pc.equal(table["split"], at))
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
