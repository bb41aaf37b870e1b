"""Speed of scoring: event pairs a second a core, and the seconds of a bootstrap over 100,000 rows.

One pair in three is equal, one has a wrong value, one an invented or omitted event beside it, as
the answers of a fair student; sentences have one to three events.
"""

import random
import time
from typing import Any

import numpy as np

from raydistill.answer import Answer
from raydistill.intervals import bootstrap
from raydistill.task import Task
from raydistill.tasks import TASKS

TYPES = ("declared_dividend", "completed_acquisition", "appointed_executive", "issued_notes")
SECONDS = 3.0


def run(rows: int = 100_000, companies: int = 500) -> dict[str, float]:
    """`pairs_per_second` (aligned or left over, on one core) and `bootstrap_seconds`."""
    task = TASKS["filing_events"]
    dice = random.Random(0)
    pairs = [_pair(task, dice) for _ in range(3000)]
    events = sum(max(len(truth.records), len(answer.records)) for truth, answer in pairs)
    rounds, began = 0, time.process_time()
    while (spent := time.process_time() - began) < SECONDS:
        for truth, answer in pairs:
            task.score(truth, answer)
        rounds += 1
    draws = np.random.default_rng(0)
    groups = draws.integers(0, companies, rows).tolist()
    hits = (draws.random(rows) < 0.95).astype(float)
    began = time.perf_counter()
    bootstrap(groups, hits, np.ones(rows), draws=1000)
    made = {
        "pairs_per_second": rounds * events / spent,
        "bootstrap_seconds": time.perf_counter() - began,
    }
    for name, value in made.items():
        print(f"{name:18} {value:14,.3f}")
    return made


def _pair(task: Task, dice: random.Random) -> tuple[Answer, Answer]:
    truth = [_event(dice) for _ in range(dice.choice((1, 1, 1, 2, 3)))]
    said: list[dict[str, Any]] = [dict(one) for one in truth]
    kind = dice.randrange(3)
    if kind == 1:
        said[0]["sentiment"] = "negative"
    elif kind == 2:
        said = [*said[1:], _event(dice)] if dice.random() < 0.5 else [*said, _event(dice)]
    dice.shuffle(said)
    return task.answer(truth), task.answer(said)


def _event(dice: random.Random) -> dict[str, Any]:
    names = ("Northgate Holdings, Inc.", "the Company", "Amber Lock Corp", "Delta Foods Group")
    return {
        "event_type": dice.choice(TYPES),
        "subject": dice.choice(names),
        "object": dice.choice((*names, None, "8.00% senior notes due 2047")),
        "magnitude_class": dice.choice(("minor", "moderate", "major")),
        "timing": "definitive",
        "sentiment": dice.choice(("positive", "neutral")),
        "materiality": "material",
        "confidence": dice.randint(7, 10),
        "date_confidence": dice.randint(0, 10),
        "event_date": dice.choice((None, "2019", "2020-05", "2021-03-14")),
    }
