"""The training loop: batches, resuming, workers, and what stops it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from raydistill.errors import SetupError
from raydistill.student.checkpoint import Place
from raydistill.student.examples import Examples, Ragged, classification, epoch
from raydistill.student.fit import FitConfig, Workers, _mine, fit
from raydistill.student.folder import ClassificationLearner
from raydistill.student.optimise import Optimiser, Optimisers, schedule
from raydistill.student.shape import Kind, Shape, model
from raydistill.student.watch import Watch
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


def _states(folder, learner, config):
    """The checkpoint of a run's last step."""
    _losses(learner, config, save_at=config.steps, folder=folder)
    return torch.load(Path(folder) / "state.pt", weights_only=True)


def test_training_ends_at_the_best_agreement_and_gives_its_weights_back(tmp_path):
    learner = _learner()
    agreements = iter([0.2, 0.7, 0.6, 0.5, 0.4])
    seen = []

    def validate():
        seen.append(learner.model.head.weight.detach().clone())
        return next(agreements)

    config = replace(CONFIG, validate_every=2, patience=2)
    lines = []
    place = fit(
        learner, config, validate=validate, report=lambda line, _: lines.append(line.agreement)
    )
    assert place.step == 8  # best at 4, then two validations without a better one
    assert lines == [-1.0, 0.2, 0.2, 0.7, 0.7, 0.6, 0.6, 0.5]
    assert torch.equal(learner.model.head.weight, seen[1])
    assert learner.model.training


def test_a_resumed_run_remembers_its_best(tmp_path):
    config = replace(CONFIG, validate_every=2, patience=3)

    def run(scores, resume=None, save_at=None):
        learner, scores = _learner(), iter(scores)

        def report(line, write):
            if line.step == save_at:
                write(tmp_path)

        fit(learner, config, validate=lambda: next(scores), report=report, resume=resume)
        return learner.model.head.weight

    whole = run([0.1, 0.9, 0.2, 0.3, 0.4], save_at=6)
    assert torch.equal(run([0.3, 0.4], resume=tmp_path), whole)


def test_a_full_disk_says_where_and_what_to_do(tmp_path):
    (tmp_path / "state.pt.tmp").symlink_to("/dev/full")
    with pytest.raises(SetupError, match=r"no space for a checkpoint(.|\n)*set root="):
        _losses(_learner(), replace(CONFIG, steps=1), save_at=1, folder=tmp_path)


def test_memory_that_does_not_suffice_names_the_overrides():
    learner = _learner()

    def loss(*_):
        return torch.empty(1 << 60), 0  # what an allocator says of an exabyte

    learner.loss = loss
    with pytest.raises(SetupError, match=r"out of memory(.|\n)*batch_tokens=256 fit.accumulate=2"):
        fit(learner, replace(CONFIG, batch_tokens=300))


def test_half_precision_with_scaling_needs_a_gpu():
    with pytest.raises(SetupError, match="fp16=true on cpu"):
        fit(_learner(), replace(CONFIG, fp16=True))


def test_a_gpu_that_is_not_there_is_refused():
    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    from raydistill.train import Config, _alone

    shape = Shape(kind=Kind.encoder, width=16, layers=1, heads=2)
    with pytest.raises(SetupError, match="torch sees no GPU"):
        _alone(Config(dataset="", out="", student=shape, gpu=True))


def test_checkpointed_gradients_learn_the_same(tmp_path):
    torch.set_num_threads(1)
    config = replace(CONFIG, steps=2)
    plain = _states(tmp_path / "a", _learner(), config)["model"]
    again = _states(tmp_path / "b", _learner(), replace(config, gradient_checkpointing=True))
    for name, value in plain.items():
        assert torch.allclose(value, again["model"][name], atol=1e-5), name


def test_adamw_alone_drives_everything_when_asked():
    learner = _learner()
    optimisers = Optimisers(learner.model, replace(CONFIG, optimiser=Optimiser.adamw))
    assert [type(one).__name__ for one in optimisers.all] == ["AdamW"]
    assert [type(one).__name__ for one in Optimisers(learner.model, CONFIG).all] == [
        "Muon",
        "AdamW",
    ]


def test_a_run_leaves_event_files_its_lines_and_a_plot(tmp_path, capsys):
    watch = Watch(tmp_path / "run.watch")
    student = tmp_path / "student"
    student.mkdir()
    fit(_learner(), CONFIG, report=lambda line, _: watch(replace(line, agreement=0.5)))
    watch.finish(student)
    names = {file.name.split(".")[0] for file in (student / "watch").iterdir()}
    assert names == {"events", "progress", "loss"}
    assert not (tmp_path / "run.watch").exists()
    assert "step 12/12" in capsys.readouterr().out
    assert "agreement on validation" in (student / "watch/loss.svg").read_text()
    lines = (student / "watch/progress.jsonl").read_text().splitlines()
    assert len(lines) == 12
    assert any(b"train/agreement" in file.read_bytes() for file in (student / "watch").iterdir())
