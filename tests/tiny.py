"""A tiny world, dataset and release, made in this process on one core in under half a minute.

The students are real and far too small: they keep most events, get every type and few whole records
right, and the rest wrong, which is what a test of what comes after training needs.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from raydistill import dataset, publish
from raydistill.dataset import Dataset
from raydistill.demo.world import World, world
from raydistill.release import Release
from raydistill.student import folder as students
from raydistill.student.examples import classification, extraction
from raydistill.student.fit import FitConfig, fit
from raydistill.student.shape import Kind, Shape, model
from raydistill.task import Task
from raydistill.tasks import TASKS
from raydistill.tokenizer import Tokenizer

# Types whose objects are few and short: a student this small learns to point at them.
TYPES = (
    "adopted_rights_plan",
    "amended_bylaws",
    "amended_credit_agreement",
    "announced_stock_split",
    "director_resigned",
    "filed_bankruptcy",
    "filed_registration_statement",
    "identified_material_weakness",
    "received_delisting_notice",
    "regained_compliance",
    "restated_financials",
    "suspended_dividend",
)
KEYWORDS = (
    *("rights", "bylaws", "amend*", "credit", "loan", "modif*", "split", "board", "director*"),
    *("bankruptcy", "chapter 11", "regist*", "form", "material weakness", "listing", "delist*"),
    *("compliance", "notice", "notif*", "restate*", "dividend*"),
)
MAX_INPUT, MAX_OUTPUT = 96, 64


@lru_cache(maxsize=1)
def tiny_world() -> World:
    """260 filings of 40 companies with short events of a few types; the teacher read them all."""
    made = world(
        seed=3,
        filings=260,
        companies=40,
        sentences_per_filing=500,
        event_share=0.45,
        keyword_share=0.5,
        unread=0.0,
        error_rate=0.01,
    )
    easy = pc.is_in(made.events["event_type"], value_set=pa.array(TYPES))
    dated = pc.is_valid(made.events["event_date"])  # reading dates takes far longer to learn
    some = pc.equal(pc.bit_wise_and(made.events["event_id"], 0x3C), 0x3C)  # one in sixteen
    short = pc.less(pc.utf8_length(made.events["sentence"]), 130)
    foreign = pc.invert(pc.and_(pc.and_(easy, short), pc.or_(pc.invert(dated), some)))
    others = pc.unique(made.events["sentence_id"].filter(foreign))
    kept = made.truth["sentence_id"].filter(pc.not_equal(made.truth["events"], "[]"))
    unanswered = kept.filter(pc.invert(pc.is_in(kept, value_set=made.events["sentence_id"])))
    dropped = pa.concat_arrays([others.cast(pa.string()), unanswered.combine_chunks()])

    def left(table: pa.Table) -> pa.Table:
        return table.filter(pc.invert(pc.is_in(table["sentence_id"], value_set=dropped)))

    return replace(
        made, sentences=left(made.sentences), events=left(made.events), truth=left(made.truth)
    )


def _rows(task: Task, made: World) -> pa.Table:
    """Every event sentence, and as many without one, near-misses before boilerplate."""
    filings = {row["filing_id"]: row for row in made.filings.to_pylist()}
    said: dict[str, list[dict[str, Any]]] = {}
    for row in made.events.to_pylist():
        said.setdefault(row["sentence_id"], []).append(row)
    near = set(made.truth["sentence_id"].to_pylist())
    rows: list[dict[str, Any]] = []
    easy = 0
    for row in made.sentences.to_pylist():
        id, filing = row["sentence_id"], filings[row["filing_id"]]
        events = said.get(id, [])
        easy += not events and id not in near
        if not events and id not in near and easy % 6:
            continue
        answer = task.answer(events, row["sentence"])
        one = {"id": id, "group": filing["cik"], "task": task.name, "text": row["sentence"]}
        one |= {"answer": task.render(answer), "weight": 1.0, "keep": bool(events)}
        one |= {"form": filing["form"], "year": filing["filed_at"].year}
        rows.append(one)
    return pa.Table.from_pylist(rows, schema=dataset.SCHEMA)


def tiny_dataset(folder: Path) -> Dataset:
    """A dataset of the tiny world; the world's held-out companies are its test split."""
    made = tiny_world()
    task = TASKS["filing_events"].with_vocabulary({"event_type": TYPES})
    rows = _rows(task, made)
    held = set(made.truth["sentence_id"].filter(made.truth["held_out"]).to_pylist())
    companies = {id.split("-")[0] for id in held}
    splits = {"train": rows, "val": rows, "test": rows}
    for name in splits:
        where = [_split(group, companies) == name for group in rows["group"].to_pylist()]
        splits[name] = rows.filter(pa.array(where))
    target = task.target("compact", positions=MAX_INPUT, spell=list, unspell="".join)
    texts = splits["train"]["text"].to_pylist()
    tokenizer = Tokenizer.learn(texts, target.tokens(), vocabulary=1500)

    def fill(temporary: Path) -> dict[str, Any]:
        for name, table in splits.items():
            (temporary / name).mkdir()
            pq.write_table(table, temporary / name / "00000.parquet")
        (temporary / "keywords.txt").write_text("\n".join(KEYWORDS) + "\n")
        return {"counts": {name: {"rows": len(table)} for name, table in splits.items()}}

    return dataset.write(folder, fill, task=task, tokenizer=tokenizer)


def tiny_slices(file: Path) -> Path:
    """Parquet of (id, slice): whether an event's phrasing occurs in training."""
    truth = tiny_world().truth
    names = pc.if_else(truth["phrasing_seen"], "seen phrasings", "unseen phrasings")
    pq.write_table(pa.table({"id": truth["sentence_id"], "slice": names}), file)
    return file


def _split(group: str, held: Iterable[str]) -> str:
    if group in held:
        return "test"
    return "val" if dataset.share(group, 0) < 0.15 else "train"


def tiny_students(data: Dataset, folder: Path, *, steps: int = 220) -> tuple[Path, Path]:
    """The folders of a skip classifier and an extractor of one layer, 64 wide."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tokenizer, train = data.tokenizer(), data.table("train")
    skip = Shape(kind=Kind.encoder, width=64, layers=1, heads=2, max_input=MAX_INPUT)
    encoder = model(skip, tokenizer)
    lessons = classification(train, tokenizer, max_input=MAX_INPUT)
    learner = students.ClassificationLearner(encoder, lessons, tokenizer)
    fit(learner, FitConfig(steps=40, batch_tokens=3000, bf16=False))
    _save(folder / "skip", data, encoder, tokenizer, skip, {"threshold": 0.2})
    extractor = Shape(
        kind=Kind.seq2seq, width=64, layers=1, decoder_layers=1, heads=2,
        max_input=MAX_INPUT, max_output=MAX_OUTPUT,
    )  # fmt: skip
    target = data.task.target(
        "compact", positions=MAX_INPUT, spell=tokenizer.spell, unspell=tokenizer.unspell
    )
    positives = train.filter(train["keep"])
    some = pa.concat_tables([positives, train.filter(pc.invert(train["keep"])).slice(0, 300)])
    examples = extraction(
        some, data.task, target, tokenizer, max_input=MAX_INPUT, max_output=MAX_OUTPUT
    )
    made = model(extractor, tokenizer)
    learner = students.ExtractionLearner(made, examples, tokenizer)
    fit(learner, FitConfig(steps=steps, batch_tokens=3000, bf16=False))
    _save(folder / "extractor", data, made, tokenizer, extractor, {})
    return folder / "skip", folder / "extractor"


def _save(
    folder: Path, data: Dataset, made: Any, tokenizer: Tokenizer, shape: Shape, facts: Any
) -> None:
    target = "compact" if shape.kind is Kind.seq2seq else ""
    size = json.loads(json.dumps({**asdict(shape), "kind": shape.kind.value}))
    card = students.Card(shape.kind.value, target, data.task.spec(), size, facts, data.fingerprint)
    students.save(folder, made, tokenizer, card)


def tiny_release(folder: Path) -> Release:
    """A published int8 release under `folder`, beside its dataset and its two students."""
    folder.mkdir(parents=True, exist_ok=True)
    tiny_students(tiny_dataset(folder / "dataset"), folder)
    return tiny_publish(folder, folder / "release")


def tiny_publish(folder: Path, out: Path, **settings: Any) -> Release:
    """The students in `folder` published to `out`."""
    return publish.run(
        publish.Config(
            dataset=str(folder / "dataset"),
            skip=str(folder / "skip"),
            extractor=str(folder / "extractor"),
            out=str(out),
            label="tiny",
            quantisation="int8",
            parity=0.5,  # a student this unsure of itself is not the same in 8 bits
            parity_rows=100,
            threads=1,
            licence="Apache-2.0",
            **settings,
        )
    )
