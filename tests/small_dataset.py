"""A small finished dataset folder of demo-world sentences."""

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raydistill import dataset
from raydistill.answer import Answer
from raydistill.dataset import SCHEMA, SPLITS, Dataset
from raydistill.demo import world as demo_world
from raydistill.tasks import TASKS
from raydistill.tokenizer import Tokenizer

TASK = TASKS["filing_events"]


@lru_cache
def rows() -> tuple[dict[str, Any], ...]:
    """Dataset rows: each event sentence of a small world, and one in ten of the others."""
    world = demo_world.world(seed=5, filings=6, companies=12, event_share=0.1, keyword_share=0.2)
    found: dict[str, list[dict[str, Any]]] = {}
    for row in world.events.to_pylist():
        found.setdefault(row["sentence_id"], []).append(row)
    out: list[dict[str, Any]] = []
    for number, row in enumerate(world.sentences.to_pylist()):
        id, text = row["sentence_id"], row["sentence"]
        if id in found or number % 10 == 0:
            answer = TASK.answer(found.get(id, []), text) if id in found else Answer()
            out.append(
                {"id": id, "group": row["filing_id"][:10], "task": TASK.name, "text": text,
                 "answer": TASK.render(answer), "weight": 1.0, "keep": bool(answer.records),
                 "form": "8-K", "year": 2000 + number % 20}
            )  # fmt: skip
    return tuple(out)


def write(folder: Path, *, held_out: Sequence[str] = ()) -> Dataset:
    """The rows above as a dataset: the last two companies are val and test.

    `held_out` are texts that stand in test, too.
    """
    parts: dict[str, list[dict[str, Any]]] = {name: [] for name in SPLITS}
    *_, val, test = sorted({row["group"] for row in rows()})
    where = {val: "val", test: "test"}
    for row in rows():
        parts[where.get(row["group"], "train")].append(row)
    quiet = {"task": TASK.name, "answer": TASK.render(Answer()), "weight": 1.0, "keep": False}
    parts["test"] += [
        {"id": f"x{at}", "group": test, "text": text, **quiet} for at, text in enumerate(held_out)
    ]

    def fill(temporary: Path) -> dict[str, Any]:
        counts = {}
        for name, some in parts.items():
            (temporary / name).mkdir()
            table = pa.Table.from_pylist(some, schema=SCHEMA)
            pq.write_table(table, temporary / name / "00000.parquet")
            counts[name] = {"rows": len(some), "events": sum(row["keep"] for row in some),
                            "companies": len({row["group"] for row in some})}  # fmt: skip
        (temporary / "keywords.txt").write_text("\n")
        return {"counts": counts, "rejects": {"bad_date": 3, "low_confidence": 12}, "seed": 5}

    texts = [row["text"] for row in rows()[:200]]
    tokenizer = Tokenizer.learn(texts, ["<none>"], vocabulary=400)
    return dataset.write(folder, fill, task=TASK, tokenizer=tokenizer)


def event(text: str, **fields: Any) -> str:
    """The JSON answer of one event with these fields."""
    base = {
        "event_type": "issued_notes", "subject": None, "object": None, "magnitude_class": "major",
        "timing": "definitive", "sentiment": "neutral", "materiality": "material",
        "confidence": 9, "date_confidence": 0, "event_date": None,
    }  # fmt: skip
    return TASK.render(TASK.answer([base | fields], text))


def told(answer: str) -> list[dict[str, Any]]:
    """The records of a JSON answer."""
    return json.loads(answer).get("events", [])
