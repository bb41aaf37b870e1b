"""Lessons for benches: a dataset of demo-world sentences, made in seconds, without a database."""

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raydistill import dataset
from raydistill.dataset import Dataset
from raydistill.demo.world import World, world
from raydistill.tasks import TASKS
from raydistill.tokenizer import Tokenizer

_POSITIONS = 128
_VOCABULARY = 4000
_TYPES = 200  # frequent event types that are one token


def made(folder: Path, *, filings: int = 250, seed: int = 7) -> Dataset:
    """About 40 event sentences a filing, and half as many without; companies split 80:10:10."""
    if (folder / dataset.MANIFEST).is_file():
        return dataset.open_(folder)
    drawn = world(
        seed=seed,
        filings=filings,
        companies=filings,
        sentences_per_filing=160,
        event_share=0.25,
        keyword_share=0.35,
        unread=0.0,
    )
    types = Counter(drawn.events["event_type"].to_pylist()).most_common(_TYPES)
    task = TASKS["filing_events"].with_vocabulary({"event_type": [name for name, _ in types]})
    rows = _rows(drawn, task)
    parts = {name: [row for row in rows if _split(row["group"]) == name] for name in dataset.SPLITS}
    target = task.target("compact", positions=_POSITIONS, spell=list, unspell="".join)
    texts = [row["text"] for row in parts["train"]]
    tokenizer = Tokenizer.learn(texts, target.tokens(), vocabulary=_VOCABULARY)

    def fill(temporary: Path) -> dict[str, Any]:
        for name, some in parts.items():
            (temporary / name).mkdir()
            table = pa.Table.from_pylist(some, schema=dataset.SCHEMA)
            pq.write_table(table, temporary / name / "00000.parquet")
        (temporary / "keywords.txt").write_text("\n")
        counts = {name: {"rows": len(some)} for name, some in parts.items()}
        return {"counts": counts, "seed": seed, "positions": _POSITIONS}

    folder.parent.mkdir(parents=True, exist_ok=True)
    return dataset.write(folder, fill, task=task, tokenizer=tokenizer)


def _rows(drawn: World, task: Any) -> list[dict[str, Any]]:
    said: dict[str, list[dict[str, Any]]] = {}
    for event in drawn.events.to_pylist():
        said.setdefault(event["sentence_id"], []).append(event)
    companies = {one["filing_id"]: one["cik"] for one in drawn.filings.to_pylist()}
    rows: list[dict[str, Any]] = []
    for number, one in enumerate(drawn.sentences.to_pylist()):
        events = said.get(one["sentence_id"], [])
        if not events and number % 6:
            continue
        answer = task.render(task.answer(events, one["sentence"]))
        row = {"id": one["sentence_id"], "group": companies[one["filing_id"]], "task": task.name}
        row |= {"text": one["sentence"], "answer": answer, "weight": 1.0, "keep": bool(events)}
        rows.append(row | {"form": "8-K", "year": 2020})
    return rows


def _split(company: str) -> str:
    return dataset.split_of(company, seed=0, val=0.1, test=0.1)
