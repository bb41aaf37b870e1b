"""The training loop: batches, resuming, workers, and what stops it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from raydistill.errors import SetupError
from raydistill.student.examples import Examples, Ragged, classification, epoch
from raydistill.student.checkpoint import Place
from raydistill.student.fit import FitConfig, Workers, _mine, fit
from raydistill.student.folder import ClassificationLearner
from raydistill.student.optimise import schedule
from raydistill.student.shape import Kind, Shape, model
from raydistill.tokenizer import Tokenizer

TEXTS = [
    f"sentence {i} of the {'filing' if i % 3 else 'company'}" + " more" * (i % 7) for i in range(90)
]
CONFIG = FitConfig(
    steps=12, batch_tokens=64, warmup=2, log_every=1, checkpoint_every=1, bf16=False, seed=3
)


def _learner():
    tokenizer = Tokenizer.learn(TEXTS, [], vocabulary=300)
    table = pa.table({"text": TEXTS, "keep": [i % 3 == 0 for i in range(len(TEXTS))]})
    made = model(Shape(kind=Kind.encoder, width=16, layers=1, heads=2, max_input=32), tokenizer)
    return ClassificationLearner(made, classification(table, tokenizer, max_input=32), tokenizer)


def _losses(learner, config=CONFIG, *, resume=None, save_at=None, folder=None):
    losses = []

    def report(line, write):
        losses.append(line.loss)
        if line.step == save_at:
            write(folder)

    fit(learner, config, report=report, resume=resume)
    return losses


def test_a_resumed_run_repeats_the_losses_of_an_undisturbed_one(tmp_path):
    torch.set_num_threads(1)
    whole = _losses(_learner(), save_at=5, folder=tmp_path / "checkpoint")
    assert len(whole) == 12
    rest = _losses(_learner(), resume=tmp_path / "checkpoint")
    assert rest == whole[5:]


def test_an_epoch_visits_every_row_once_within_its_budget():
    examples = Examples(
        Ragged.of([[1] * (n % 9 + 1) for n in range(200)]), Ragged.of([[0]] * 200), 0
    )
    batches = epoch(examples, seed=1, number=0, batch_tokens=40)
    assert sorted(np.concatenate(batches).tolist()) == list(range(200))
    assert all(examples.costs[rows].max() * len(rows) <= 40 for rows in batches)
    again = epoch(examples, seed=1, number=0, batch_tokens=40)
    assert all((a == b).all() for a, b in zip(batches, again, strict=True))
    other = epoch(examples, seed=1, number=1, batch_tokens=40)
    assert [rows.tolist() for rows in other] != [rows.tolist() for rows in batches]


@pytest.mark.parametrize("counts", [(1,), (2,), (3,), (3, 2), (2, 3, 1)])
def test_workers_together_see_every_row_once_an_epoch_however_many_they_are(counts):
    examples = Examples(
        Ragged.of([[1] * (n % 9 + 1) for n in range(100)]), Ragged.of([[0]] * 100), 0
    )
    batches = epoch(examples, seed=3, number=0, batch_tokens=64)
    seen, place, at = [], Place(), 0
    for turn, count in enumerate(counts):
        last = turn == len(counts) - 1
        steps = -(-(len(batches) - at) // count) if last else 2
        streams = [
            _mine(examples, CONFIG, Place(0, place.epoch, at), Workers(rank=r, count=count))
            for r in range(count)
        ]
        for _ in range(steps):
            for stream in streams:
                rows, weight = next(stream)
                seen += rows.tolist() if weight else []
        at += steps * count
    assert sorted(seen) == list(range(100))


def test_the_rate_warms_up_and_decays():
    config = FitConfig(steps=100, warmup=10, final=0.1)
    rates = [schedule(step, config) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == 1.0
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert rates[-1] == pytest.approx(0.11)


def test_a_loss_that_is_not_finite_stops_the_run():
    learner = _learner()
    with torch.no_grad():
        learner.model.head.weight.fill_(float("nan"))
    with pytest.raises(SetupError, match="the loss is nan at step 0"):
        fit(learner, CONFIG)


def test_a_checkpoint_holds_no_pickle(tmp_path):
    _losses(_learner(), replace(CONFIG, steps=2), save_at=2, folder=tmp_path)
    state = torch.load(Path(tmp_path) / "state.pt", weights_only=True)
    assert state["place"][0] == 2
