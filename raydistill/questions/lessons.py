"""Building a mixture: rows of several tasks in a file become one dataset for one student.

A row is (id, group, task, text, answer), and perhaps `weight`, how often an epoch shows it: Parquet
or JSON lines, `answer` in the task's JSON form. Companies (groups) are split, never rows; an answer
that does not parse is a reject with its code.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raydistill import dataset
from raydistill.dataset import SCHEMA, SPLITS, Dataset, share
from raydistill.errors import AnswerError, SetupError
from raydistill.questions.asking import mark
from raydistill.task import Task
from raydistill.tokenizer import Tokenizer

Row = Mapping[str, Any]

_NAMES = {"text": ("text", "input", "question"), "answer": ("answer", "output"),
          "group": ("group", "company"), "task": ("task",), "id": ("id",),
          "weight": ("weight",)}  # fmt: skip
_REJECTS = pa.schema([(n, pa.string()) for n in ("id", "task", "code", "detail", "text", "raw")])


def read(file: Path) -> list[dict[str, Any]]:
    """The rows of a Parquet or JSON lines file under our names. Raises SetupError."""
    if not file.is_file():
        raise SetupError(
            f"source.path={file} is missing",
            expected="Parquet or JSON lines of id, group, task, text, answer",
            todo="write the demo's by `python jobs/questions.py`, or set source.path",
        )
    if file.suffix == ".parquet":
        found = pq.read_table(file).to_pylist()
    else:
        found = [json.loads(line) for line in file.read_text().splitlines() if line.strip()]
    present = set[str]().union(*(row.keys() for row in found[:100]))
    ours = {name: next((k for k in known if k in present), None) for name, known in _NAMES.items()}
    missing = [name for name in ("text", "answer", "task") if ours[name] is None]
    if missing:
        raise SetupError(
            f"{file} has no {', '.join(missing)} ({', '.join(sorted(present)) or 'no rows'})",
            expected="columns id, group, task, text, answer",
            todo="rename its columns",
        )
    return [
        {name: row.get(theirs) if theirs else None for name, theirs in ours.items()} | {"at": at}
        for at, row in enumerate(found)
    ]


def build(
    rows: Sequence[Row],
    tasks: Sequence[Task],
    out: Path,
    *,
    split: Callable[[str], str],
    vocabulary: int,
    positions: int,
    seed: int,
    facts: Mapping[str, Any] | None = None,
) -> Dataset:
    """Writes the dataset of a mixture; `split` gives a group's split. Prints what is in it."""
    by_name = {task.name: task for task in tasks}
    kept, rejects, counts = _cleaned(rows, by_name, split)
    if not any(row["split"] == "train" for row in kept):
        raise SetupError(
            f"no row to learn from ({dict(counts)})",
            expected=f"rows of {', '.join(by_name)}",
            todo="correct source.path or split",
        )
    # By a hash of the row: any first part of a file is a fair sample.
    kept.sort(key=lambda row: (share(f"{row['task']} {row['text']}", seed), row["id"]))
    tokenizer = _tokenizer(kept, tasks, vocabulary, positions)

    def fill(folder: Path) -> dict[str, Any]:
        for name in SPLITS:
            (folder / name).mkdir()
            part = [row for row in kept if row["split"] == name]
            table = pa.Table.from_pylist(part, schema=SCHEMA)
            pq.write_table(table, folder / name / "00000.parquet")
        pq.write_table(pa.Table.from_pylist(rejects, schema=_REJECTS), folder / "rejects.parquet")
        return {
            "counts": {name: _counts(kept, name, tasks) for name in SPLITS},
            "account": dict(counts),
            "rejects": dict(Counter(row["code"] for row in rejects)),
            "seed": seed,
            "positions": positions,
            **(facts or {}),
        }

    first, *others = tasks
    made = dataset.write(out, fill, task=first, tokenizer=tokenizer, others=tuple(others))
    for name in SPLITS:
        each = made.manifest["counts"][name]["tasks"]
        print(f"{name}: " + ", ".join(f"{task} {count:,}" for task, count in each.items()))
    print(f"dataset: {out} ({dict(counts)})")
    return made


def _cleaned(
    rows: Sequence[Row], tasks: Mapping[str, Task], split: Callable[[str], str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], Counter[str]]:
    """Rows in standard form, one a task and text; rejects; and how many of each there were."""
    counts: Counter[str] = Counter()
    kept: dict[tuple[str, str], dict[str, Any]] = {}
    rejects: list[dict[str, Any]] = []
    for row in rows:
        task = tasks.get(row["task"])
        if task is None:
            counts["other_task"] += 1
            continue
        raw = row["answer"] if isinstance(row["answer"], str) else json.dumps(row["answer"])
        id, text = str(row["id"] or f"row-{row['at']}"), row["text"]
        try:
            if not isinstance(text, str) or not text.strip():
                raise AnswerError("no_text")
            answer = task.parse(raw, text)
        except AnswerError as problem:
            reject = {"id": id, "task": task.name, "code": problem.code, "detail": problem.detail}
            rejects.append(reject | {"text": None if text is None else str(text), "raw": raw})
            continue
        group = str(row["group"] or text)
        weight = 1.0 if row.get("weight") is None else float(row["weight"])
        one: dict[str, Any] = {"id": id, "group": group, "task": task.name, "text": text}
        one |= {"weight": weight}
        one |= {"answer": task.render(answer), "keep": bool(answer.records)}
        one |= {"split": split(group), "form": None, "year": None}
        # One text in two splits would be known before it is asked: the first row decides.
        known = kept.setdefault((task.name, text), one)
        if known is not one:
            same = known["answer"] == one["answer"]
            counts["repeated" if same else "contradicting"] += 1
    counts["rejected"] = len(rejects)
    counts["kept"] = len(kept)
    return list(kept.values()), rejects, counts


def _counts(kept: Sequence[Row], name: str, tasks: Sequence[Task]) -> dict[str, Any]:
    part = [row for row in kept if row["split"] == name]
    each = Counter(row["task"] for row in part)
    return {
        "rows": len(part),
        "events": sum(row["keep"] for row in part),
        "companies": len({row["group"] for row in part}),
        "tasks": {task.name: each[task.name] for task in tasks},
    }


def _tokenizer(
    kept: Sequence[Row], tasks: Sequence[Task], vocabulary: int, positions: int
) -> Tokenizer:
    texts = sorted({str(row["text"]) for row in kept if row["split"] == "train"})
    added: list[str] = [mark(task.name) for task in tasks]
    for task in tasks:
        target = task.target("compact", positions=positions, spell=list, unspell="".join)
        added += target.tokens()
    return Tokenizer.learn(texts, list(dict.fromkeys(added)), vocabulary=vocabulary)
