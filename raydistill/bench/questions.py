"""bench=questions: four tasks, one student, trained for minutes and asked third-party cases.

Taught are the demo's questions and, of each third-party file, the cases that its publisher keeps
for training or else half of them, by a hash, four times an epoch; asked are the others. `rows` is
(demo questions, training steps, 1 to teach third-party cases or 0 for the demo's alone). Without
the folder of cases (`corpus`) the demo's held-out companies are asked alone.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raydistill import publish, train
from raydistill.config import compose
from raydistill.dataset import Dataset, share
from raydistill.demo import questions
from raydistill.questions import cases, lessons
from raydistill.questions.answering import Answerer
from raydistill.questions.report import Cases, cases_of, lines, report, taught_by
from raydistill.tasks import QUESTIONS

SEED = 7


def run(root: Path, corpus: Path | None, rows: list[int], threads: int) -> dict[str, Any]:
    """Trains and asks; gives the figures of every task and file."""
    count, steps, teach = [*rows, *(6_000, 600, 1)[len(rows) :]]
    found = cases.read(corpus) if corpus else []
    for one in found:
        reason = one.absent or f"left out: {dict(one.left_out) or 'none'}"
        print(f"{one.source}: {len(one.cases)} cases for {one.task.name}; {reason}", flush=True)
    kept_back: list[Cases] = []
    data = _dataset(root, count, found if teach else [])
    for one in found:
        held = [(case, truth) for case, truth in one.cases if _held(case)]
        texts = [case.text for case, _ in held]
        kept_back.append(Cases(one.task, one.source, texts, [truth for _, truth in held]))
    began = time.perf_counter()
    student = train.run(
        compose(
            "train",
            train.Config,
            ["student=questions_s", f"dataset={data.folder}", f"out={root / 'student'}",
             "workers=0", f"threads={threads}", f"fit.steps={steps}", "fit.log_every=100"],
        )
    )  # fmt: skip
    seconds = time.perf_counter() - began
    release = publish.run(
        publish.Config(
            dataset=str(data.folder), skip="", extractor=str(student), out=str(root / "release"),
            label="questions", parity=1.0, parity_rows=400, threads=threads,
        )
    )  # fmt: skip
    answerer = Answerer(release, threads=threads)
    made = report(answerer, [*cases_of(data, "test"), *kept_back], taught_by(data))
    print(lines(made))
    return {
        "steps": steps,
        "train_s": round(seconds, 1),
        "taught_third_party": bool(teach and found),
        "parity": release.manifest.metrics["parity"]["disagree"],
        "tasks": [_rounded(row) for row in made],
    }


def _dataset(root: Path, count: int, found: list[cases.Read]) -> Dataset:
    made = questions.table(seed=SEED, questions=count)
    asked = {case.text for one in found for case, _ in one.cases if _held(case)}
    rows: list[Mapping[str, Any]] = [
        row | {"at": 0} for row in made.to_pylist() if row["text"] not in asked
    ]
    third_party: set[str] = set()
    for one in found:
        for at, (case, truth) in enumerate(one.cases):
            if not _held(case) and case.text not in asked:
                group = f"{one.source} {case.group}"
                third_party.add(group)
                answer, id = one.task.render(truth), f"{one.source}-{at}"
                row = {"id": id, "group": group, "task": one.task.name, "at": at, "weight": 4.0}
                rows.append(row | {"text": case.text, "answer": answer})
    held_out = set(questions.held_out_companies(SEED))

    def split(group: str) -> str:
        if group in third_party:
            return "train"
        return "test" if group in held_out else "val" if share(group, SEED) < 0.05 else "train"

    return lessons.build(
        rows,
        QUESTIONS,
        root / "dataset",
        split=split,
        vocabulary=4000,
        positions=256,
        seed=SEED,
    )


def _held(case: cases.Case) -> bool:
    """Whether a case is asked and not taught."""
    return share(case.group, SEED) < 0.5 if case.held is None else case.held


def _rounded(row: Mapping[str, Any]) -> dict[str, Any]:
    names = ("precision", "recall", "f1", "partial", "valid", "recall_only", "agreement")
    return {
        "task": row["task"],
        "source": row["source"],
        "cases": row["cases"],
        "records": row["records"],
        **{name: round(row["student"][name], 4) for name in names},
        **{f"base_{name}": round(row["base"][name], 4) for name in names[:3]},
        "texts_per_s": round(row["texts_per_s"]),
    }
