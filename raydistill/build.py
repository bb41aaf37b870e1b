"""build: teacher rows become a dataset.

Positives are the teacher's events by sentence; negatives are sentences of filings that the teacher
has finished and found nothing in: boilerplate, hard ones (the learned prefilter passes them), easy
ones. One label a text, no near-duplicates, and no company or near-duplicate in two splits.

Rows are spilled to disk by text and worked on in parts by `workers` processes, so memory does not
grow with the table. It runs on one machine: 12 million rows are minutes of work there.
"""

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raydistill import dataset, keywords
from raydistill.dataset import SPLITS, Dataset
from raydistill.errors import SetupError
from raydistill.fields import Integer, Text
from raydistill.keywords import Keywords
from raydistill.lessons import audit, consolidate, corrections, near, spill
from raydistill.lessons.account import KINDS, corpus_pass, held_out, print_account
from raydistill.lessons.plan import EVENT, Plan, Splits, shares
from raydistill.lessons.reading import Gathered, Wish, gathered
from raydistill.lessons.steps import REJECTS, Choose, Chosen, Classify, Label, Write, Written
from raydistill.progress import Progress
from raydistill.questions import lessons as mixed
from raydistill.source import SourceConfig, SourceKind
from raydistill.task import Task
from raydistill.tasks import MIXTURES, TASKS
from raydistill.tokenizer import Tokenizer

Made = TypeVar("Made")

LEARN_ROWS = 100_000  # texts of either kind that keywords are learned from and tested on
TOKENIZER_ROWS = 100_000
SHARD_ROWS = 100_000
_BINS = 20  # bits of a place that decide how many negatives are taken


@dataclass(kw_only=True, slots=True)
class SplitConfig:
    """Shares of companies in val and test.

    `holdout` names a file of companies that are all test; `after` is a date from which on rows are
    test, and companies then stand on both sides of it.
    """

    val: float = 0.1
    test: float = 0.2
    holdout: str | None = None
    after: str | None = None


@dataclass(kw_only=True, slots=True)
class Config:
    """What build reads and how it mixes. `negatives` is rows without an event for each with one.

    `corrections` are files that people have reviewed (see review): their labels override the
    teacher's. `variations` is the share of train rows with an event that get a varied copy.
    """

    root: str = "runs"
    source: SourceConfig
    out: str
    task: str = "filing_events"
    split: SplitConfig = field(default_factory=SplitConfig)
    confidence: int = 8
    sample: int = 0
    negatives: float = 2.0
    hard: float = 0.7
    boilerplate: float = 0.1
    repeats: int = 10
    dedup: bool = True
    near: float = 0.8
    merge: dict[str, str] = field(default_factory=dict)
    corrections: list[str] = field(default_factory=list[str])
    variations: float = 0.0
    corpus: str | None = None
    recall: float = 0.995
    head: int = 4000
    vocabulary: int = 8000
    positions: int = 256
    seed: int = 0
    workers: int = 2

    def __post_init__(self) -> None:
        if self.task not in TASKS and self.task not in MIXTURES:
            known = " | ".join(sorted([*TASKS, *MIXTURES]))
            raise SetupError(f"task={self.task}", expected=known, todo="set task=NAME")
        if min(self.hard, self.boilerplate, self.negatives) < 0 or self.hard + self.boilerplate > 1:
            raise SetupError(
                f"hard={self.hard}, boilerplate={self.boilerplate}, negatives={self.negatives}",
                expected="hard and boilerplate of at least 0, together at most 1, negatives >= 0",
            )
        if not 0 <= self.variations <= 1:
            raise SetupError(f"variations={self.variations}", expected="a share from 0 to 1")
        if not 0.5 <= self.near <= 1 or self.sample < 0 or self.workers < 1 or self.repeats < 2:
            raise SetupError(
                f"near={self.near}, sample={self.sample}, workers={self.workers},"
                f" repeats={self.repeats}",
                expected="near in 0.5..1, sample >= 0, workers >= 1, repeats >= 2",
            )
        if self.confidence < 0:
            raise SetupError(f"confidence={self.confidence}", expected="at least 0 (0: no floor)")

    @property
    def floor(self) -> int:
        """The lowest confidence that is used; 0 where the task has none."""
        named = {one.name for one in TASKS[self.task].fields if isinstance(one, Integer)}
        return self.confidence if "confidence" in named else 0


def run(config: Config) -> Dataset:
    """Builds the dataset of `config`; prints what is in it."""
    out = Path(config.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    if config.task in MIXTURES:
        return _mixture(config, out)
    with ExitStack() as stack:
        # Beside the dataset, not in /tmp: it is as large as the rows.
        name = f".{out.name}."
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=name, dir=out.parent)))
        processes = spill.pool(config.workers)
        if processes is not None:
            stack.enter_context(processes)
        plan = _plan(config, work / "rows")
        wish = Wish(config.sample, config.negatives)
        read = gathered(config.source, plan, wish, processes)
        made = _Build(config, read, processes).dataset()
    print_account(made)
    return made


def _mixture(config: Config, out: Path) -> Dataset:
    """The dataset of several tasks, whose rows lie in one file: see questions.lessons."""
    source = config.source
    if source.kind is not SourceKind.rows or source.path is None:
        raise SetupError(
            f"task={config.task} with source.kind={source.kind.value}",
            expected="a file of id, group, task, text, answer",
            todo="set source=rows source.path=FILE",
        )
    split = config.split
    splits = Splits(config.seed, split.val, split.test, _holdout(split.holdout))
    return mixed.build(
        mixed.read(Path(source.path)),
        MIXTURES[config.task],
        out,
        split=lambda group: SPLITS[int(splits.of([group], [None])[0])],
        vocabulary=config.vocabulary,
        positions=config.positions,
        seed=config.seed,
        facts={"source": {"rows": source.path}},
    )


def _plan(config: Config, work: Path) -> Plan:
    split = config.split
    try:
        after = date.fromisoformat(split.after) if split.after else None
    except ValueError:
        raise SetupError(f"split.after={split.after}", expected="a date: 2024-01-01") from None
    return Plan(
        work=str(work),
        task=config.task,
        splits=Splits(config.seed, split.val, split.test, _holdout(split.holdout), after),
        seed=config.seed,
        buckets=1,
        floor=config.floor,
        repeats=config.repeats,
        merge=consolidate.resolved(config.merge),
        corrections=corrections.read(config.corrections, TASKS[config.task]),
        variations=config.variations,
        near=config.near,
    )


def _holdout(file: str | None) -> frozenset[str] | None:
    if file is None:
        return None
    if not Path(file).is_file():
        raise SetupError(f"split.holdout={file} is missing", expected="one company a line")
    return frozenset(line.strip() for line in Path(file).read_text().splitlines() if line.strip())


class _Build:
    """The way from spilled rows to a dataset; holds what the manifest will say."""

    def __init__(
        self, config: Config, read: Gathered, processes: ProcessPoolExecutor | None
    ) -> None:
        self.config, self.read, self.plan = config, read, read.plan
        # Few rows are done sooner here than processes start.
        self.processes = processes if self.plan.buckets > 4 else None
        self.counts = Counter(read.counts)
        self.rejects: Counter[str] = Counter()
        self.corrected: set[str] = set()

    def dataset(self) -> Dataset:
        learned = self._learned(self._labelled())
        limits, tested = self._limits(learned)
        chosen, shards = self._chosen(limits)
        self.counts["chosen"] = sum(len(one.share) for one in chosen)
        starts = self._without_near(chosen)
        scored = min(1.0, audit.SCORED / max(1, self.counts["chosen"]))
        step = Write(self.plan, tuple(starts), scored)
        written = list(self._each("splits", step, shards))
        self.counts["varied"] = sum(one.varied for one in written)
        self.counts["varied_dropped"] = sum(one.varied_dropped for one in written)
        self.counts["written"] = (
            sum(sum(one.rows.values()) for one in written) - self.counts["varied"]
        )
        types = _types(written)
        task = self._with_heads(types["train"])
        folder = self.plan.folder("splits")
        tokenizer = _tokenizer(folder, task, self.config)

        def fill(made: Path) -> dict[str, Any]:
            for name in SPLITS:
                (folder / name).rename(made / name)
            learned.write(made / "keywords.txt")
            self._rejects(made / "rejects.parquet")
            heads = {f.name: list(f.vocabulary) for f in task.fields if isinstance(f, Text)}
            merges = consolidate.write(made / "types.csv", types["all"], heads)
            audit.write(made, audit.worst([s for one in written for s in one.suspects]))
            return self._manifest(written, learned, tested, merges)

        return dataset.write(Path(self.config.out), fill, task=task, tokenizer=tokenizer)

    def _each(self, name: str, step: Callable[[int], Made], count: int) -> Iterator[Made]:
        """The step's results on each number below `count`, with a line of progress."""
        progress = Progress(name, count, "parts")
        for done, one in enumerate(spill.run(step, range(count), self.processes), 1):
            yield one
            progress.update(done)

    def _labelled(self) -> pa.Table:
        """One label a text; gives the rows to learn keywords from."""
        kinds = (self.read.teacher_rows, max(self.read.candidates, 1))
        rates = (min(1.0, LEARN_ROWS / max(1, kinds[0])), min(1.0, LEARN_ROWS / kinds[1]))
        ids: list[Any] = []
        samples: list[pa.Table] = []
        for one in self._each("labels", Label(self.plan, rates), self.plan.buckets):
            self.counts.update(one.counts)
            self.rejects.update(one.rejects)
            self.corrected.update(one.corrected)
            ids.append(one.ids)
            samples.append(one.sample)
        shutil.rmtree(self.plan.folder("teacher"))
        shutil.rmtree(self.plan.folder("sentences"))
        if not self.counts["events"]:
            raise SetupError(
                f"{self._name()} gives no answer ({dict(self.rejects) or 'no rows'})",
                expected="the teacher's events",
                todo="fill the table, or correct source.events.table and source.events.where",
            )
        each = np.unique(np.concatenate(ids), return_counts=True)[1]
        self.counts["ids_with_two_texts"] = int((each > 1).sum())
        return pa.concat_tables(samples).sort_by("share")

    def _name(self) -> str:
        source = self.config.source
        return source.path if source.path and source.kind.value == "rows" else source.events.table

    def _learned(self, sample: pa.Table) -> Keywords:
        """The prefilter and the audit's model, learned on every company that is not in test."""
        texts, groups = sample["text"].to_pylist(), sample["group"].to_pylist()
        keep = np.asarray(sample["keep"])
        learned = keywords.learn(
            texts,
            keep,
            groups,
            recall=self.config.recall,
            seed=self.config.seed,
            sample=np.asarray(sample["random"]),
        )
        audit.fit(texts, keep, groups, Path(self.plan.work) / "models.npy")
        return learned

    def _limits(self, learned: Keywords) -> tuple[tuple[int, ...], dict[str, Any]]:
        """For each kind the last place taken, and what the keywords do on the test companies."""
        have = np.zeros((4, 1 << _BINS), np.int64)
        tested: list[pa.Table] = []
        step = Classify(self.plan, tuple(learned.keywords))
        for one in self._each("prefilter", step, self.plan.buckets):
            place = (one.share >> np.uint64(64 - _BINS)).astype(np.int64)
            np.add.at(have, (one.kind, place), 1)
            tested.append(one.tested)
        wanted = int(have[EVENT].sum() * self.config.negatives)
        counts = have.sum(axis=1)
        there = {kind: int(counts[kind]) for kind in KINDS}
        take = shares(wanted, self.config.hard, self.config.boilerplate, there)
        limits: list[int] = []
        for kind in range(EVENT):
            # The first bins that hold as many as are wanted; at most one bin's rows too many.
            bins = int(np.searchsorted(np.cumsum(have[kind]), take[kind])) + 1 if take[kind] else 0
            limits.append(max(0, min(bins, 1 << _BINS) * 2 ** (64 - _BINS) - 1))
        return (*limits, 2**64 - 1), held_out(pa.concat_tables(tested), self.config.seed)

    def _chosen(self, limits: tuple[int, ...]) -> tuple[list[Chosen], int]:
        rows = self.counts["events"] * (1 + self.config.negatives)
        shards = 1 + int(min(rows, self.counts["events"] + self.counts["nothing"])) // SHARD_ROWS
        step = Choose(self.plan, limits, shards)
        return list(self._each("choice", step, self.plan.buckets)), shards

    def _without_near(self, chosen: list[Chosen]) -> list[int]:
        """Marks near-duplicates; gives the first row of each bucket."""
        found = near.search(self.plan, chosen, within=self.config.dedup)
        self.counts.update(found.counts)
        return found.starts

    def _with_heads(self, types: dict[str, Counter[str]]) -> Task:
        """The task with the train split's frequent values of open fields as single tokens."""
        size = self.config.head
        heads = {name: consolidate.head(counts, size) for name, counts in types.items()}
        return TASKS[self.config.task].with_vocabulary(heads)

    def _rejects(self, file: Path) -> None:
        with pq.ParquetWriter(file, REJECTS) as writer:
            for part in sorted(self.plan.folder("rejects").glob("*.parquet")):
                writer.write_table(pq.read_table(part))

    def _manifest(
        self, written: list[Written], learned: Keywords, tested: dict[str, Any], merges: Any
    ) -> dict[str, Any]:
        config, source = self.config, self.config.source
        kinds = sum((one.kinds for one in written), Counter())
        prefilter: dict[str, Any] = {
            "keywords": len(learned.keywords), "claim": learned.claim, "recall": learned.recall,
            "recall_lower": learned.lower, "pass_rate": learned.pass_rate, "held_out": tested,
        }  # fmt: skip
        if config.corpus:
            prefilter["corpus"] = corpus_pass(Path(config.corpus), learned.keywords)
        tables = {"events": source.events.table, "sentences": source.sentences.table}
        return {
            "counts": {
                name: {
                    "rows": sum(one.rows[name] for one in written),
                    "events": sum(one.events[name] for one in written),
                    "companies": len(set[str]().union(*(one.groups[name] for one in written))),
                    **{kind: kinds[name, number] for number, kind in KINDS.items()},
                }
                for name in SPLITS
            },
            "account": dict(sorted(self.counts.items())),
            "rejects": dict(sorted(self.rejects.items())),
            "seed": config.seed,
            "restarts": self.read.restarts,
            "filters": {
                "confidence": config.floor, "where": source.events.where,
                "sentences": source.sentences.where, "filings": source.filings.where,
                "sample": config.sample, "near": config.near, "dedup": config.dedup,
            },
            "split": {"val": config.split.val, "test": config.split.test,
                      "holdout": config.split.holdout, "after": config.split.after},
            "negatives": {"ratio": config.negatives, "hard": config.hard,
                          "boilerplate": config.boilerplate, "repeats": config.repeats},
            "merge": dict(config.merge),
            "corrections": self.plan.corrections.manifest(self.corrected),
            "variations": {"share": config.variations, "rows": self.counts["varied"],
                           "dropped": self.counts["varied_dropped"]},
            "suggested_merges": {field: len(each) for field, each in merges.items()},
            "prefilter": prefilter,
            "source": {"rows": source.path} if source.kind.value == "rows" else tables,
            "positions": config.positions,
        }  # fmt: skip


def _types(written: list[Written]) -> dict[str, dict[str, Counter[str]]]:
    """Counts of each open field's values, by split and over all."""
    out: dict[str, dict[str, Counter[str]]] = {}
    for name in (*SPLITS, "all"):
        parts = [one.types[split] for one in written for split in SPLITS if name in (split, "all")]
        out[name] = {f: sum((p[f] for p in parts), Counter[str]()) for f in parts[0]}
    return out


def _tokenizer(folder: Path, task: Task, config: Config) -> Tokenizer:
    texts: list[str] = []
    for file in sorted((folder / "train").glob("*.parquet")):
        for batch in pq.ParquetFile(file).iter_batches(columns=["text"]):
            if len(texts) < TOKENIZER_ROWS:
                texts += batch["text"].to_pylist()
    # The compact target's tokens do not depend on how it spells.
    target = task.target("compact", positions=config.positions, spell=list, unspell="".join)
    return Tokenizer.learn(texts[:TOKENIZER_ROWS], target.tokens(), vocabulary=config.vocabulary)
