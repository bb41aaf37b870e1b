"""The training loop: batches in, gradients, checkpoints that resume exactly. Knows nothing of Ray.

Muon (Jordan et al. 2024) drives the matrices, AdamW embeddings, norms and biases; warm-up, then
linear decay. `Workers` is what DDP adds: which batches are mine, and how the model is wrapped.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from raydistill.errors import SetupError
from raydistill.student.examples import Examples, epoch


@dataclass(kw_only=True, slots=True)
class FitConfig:
    """How a student is trained. Rates are peak learning rates; `steps` are optimiser steps."""

    steps: int = 300
    batch_tokens: int = 4096
    accumulate: int = 1
    muon_rate: float = 0.02
    adamw_rate: float = 3e-3
    warmup: int = 40
    final: float = 0.02
    clip: float = 1.0
    seed: int = 0
    bf16: bool = True
    log_every: int = 10
    checkpoint_every: int = 100

    def __post_init__(self) -> None:
        for name in ("steps", "batch_tokens", "accumulate", "log_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise SetupError(f"train.fit.{name}={getattr(self, name)}", expected="at least 1")


class Learner(Protocol):
    """What is being taught: its model, and the loss of some rows of its examples."""

    model: nn.Module
    examples: Examples

    def loss(self, model: nn.Module, rows: Any, device: torch.device) -> tuple[torch.Tensor, int]:
        """Mean loss over the rows' label tokens, and how many those are."""
        ...


@dataclass(frozen=True, slots=True)
class Workers:
    """This process among the workers of a run; alone by default."""

    rank: int = 0
    count: int = 1
    wrap: Callable[[nn.Module], nn.Module] = field(default=lambda model: model)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


@dataclass(slots=True)
class Place:
    """Where a run stands: optimiser steps done, epoch, and batches of that epoch already used."""

    step: int = 0
    epoch: int = 0
    batch: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """One line of the log; `eta_s` and `seconds` in seconds, `tokens_per_s` of all workers."""

    step: int
    steps: int
    loss: float
    rate: float
    tokens_per_s: float
    seconds: float
    eta_s: float


Report = Callable[[Progress, Callable[[Path], None] | None], None]


class Optimisers:
    """Muon for the matrices inside the layers, AdamW for everything else, one schedule for both."""

    def __init__(self, model: nn.Module, config: FitConfig) -> None:
        matrices: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for name, parameter in model.named_parameters():
            inside = parameter.ndim == 2 and "embed" not in name and "head" not in name
            if parameter.requires_grad:
                (matrices if inside else others).append(parameter)
        self.config = config
        self.all: list[torch.optim.Optimizer] = []
        if matrices:
            self.all.append(torch.optim.Muon(matrices, lr=config.muon_rate, weight_decay=0.0))
        self.all.append(
            torch.optim.AdamW(others, lr=config.adamw_rate, betas=(0.9, 0.95), weight_decay=0.0)
        )
        self.peaks = [group["lr"] for one in self.all for group in one.param_groups]

    def step(self, number: int) -> float:
        """One update at the rate of step `number`; gives the schedule's share of the peak rate."""
        share = schedule(number, self.config)
        groups = (group for one in self.all for group in one.param_groups)
        for group, peak in zip(groups, self.peaks, strict=True):
            group["lr"] = peak * share
        for one in self.all:
            one.step()
            one.zero_grad(set_to_none=True)
        return share


def schedule(step: int, config: FitConfig) -> float:
    """The share of the peak rate at a step: linear warm-up, then linear decay to `final`."""
    warmup = min(config.warmup, max(1, config.steps // 4))
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, config.steps - warmup)
    return 1.0 - (1.0 - config.final) * done


def fit(
    learner: Learner,
    config: FitConfig,
    *,
    workers: Workers | None = None,
    report: Report | None = None,
    resume: Path | None = None,
) -> Place:
    """Trains `learner.model` in place; gives where the run ended.

    `report` gets a Progress every `log_every` steps and, every `checkpoint_every`, a function that
    writes a checkpoint folder, which a later call takes as `resume`. Raises SetupError on a loss
    that is not finite.
    """
    workers = workers or Workers()
    if not len(learner.examples):
        raise SetupError("no training examples", todo="check the dataset and train.max_input")
    learner.model.to(workers.device)
    optimisers = Optimisers(learner.model, config)
    place = restore(resume, learner.model, optimisers) if resume else Place()
    model = workers.wrap(learner.model)
    model.train()
    meter = _Meter(config, place.step)
    batches = _mine(learner.examples, config, place, workers)
    while place.step < config.steps:
        loss, tokens = 0.0, 0
        for part in range(config.accumulate):
            rows, active = next(batches)
            last = part == config.accumulate - 1
            with _no_sync(model, last), _autocast(config, workers.device):
                value, count = learner.loss(model, rows, workers.device)
                scaled = value * (active / config.accumulate)
            scaled.backward()
            loss += float(value.detach()) / config.accumulate
            tokens += count
        _check(loss, place.step)
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        rate = optimisers.step(place.step)
        place.step += 1
        meter.add(loss, tokens * workers.count)
        if report and (place.step % config.log_every == 0 or place.step == config.steps):
            save = None
            if place.step % config.checkpoint_every == 0 or place.step == config.steps:
                save = _saver(
                    learner.model, optimisers, Place(place.step, place.epoch, place.batch)
                )
            report(meter.line(place.step, rate), save)
    return place


def _mine(
    examples: Examples, config: FitConfig, place: Place, workers: Workers
) -> Iterator[tuple[Any, float]]:
    """This worker's batches from `place` on, and the weight of each.

    Workers take batches in turn, so every row is seen once an epoch whatever their number. Where an
    epoch ends unevenly, idle workers repeat a batch with weight 0 (DDP needs a step of all).
    """
    while True:
        batches = epoch(
            examples, seed=config.seed, number=place.epoch, batch_tokens=config.batch_tokens
        )
        while place.batch < len(batches):
            active = min(workers.count, len(batches) - place.batch)
            at = place.batch + workers.rank
            place.batch += active
            if workers.rank < active:
                yield batches[at], workers.count / active
            else:
                yield batches[-1], 0.0
        place.epoch += 1
        place.batch = 0


def _autocast(config: FitConfig, device: torch.device) -> AbstractContextManager[Any]:
    return torch.autocast(device.type, torch.bfloat16) if config.bf16 else nullcontext()


def _no_sync(model: nn.Module, last: bool) -> AbstractContextManager[Any]:
    """DDP exchanges gradients on the last part of an accumulated step only."""
    no_sync = getattr(model, "no_sync", None)
    return nullcontext() if last or no_sync is None else no_sync()


def _check(loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise SetupError(
            f"the loss is {loss} at step {step}",
            expected="a finite loss",
            todo="lower train.fit.muon_rate and train.fit.adamw_rate, or set train.fit.bf16=false",
        )


class _Meter:
    """Mean loss since the last line, tokens per second and time to go."""

    def __init__(self, config: FitConfig, step: int) -> None:
        self.config, self.first = config, step
        self.began = self.mark = time.monotonic()
        self.losses: list[float] = []
        self.tokens = 0

    def add(self, loss: float, tokens: int) -> None:
        self.losses.append(loss)
        self.tokens += tokens

    def line(self, step: int, rate: float) -> Progress:
        now = time.monotonic()
        pace = (now - self.began) / max(1, step - self.first)
        line = Progress(
            step=step,
            steps=self.config.steps,
            loss=sum(self.losses) / max(1, len(self.losses)),
            rate=rate,
            tokens_per_s=self.tokens / max(1e-9, now - self.mark),
            seconds=now - self.began,
            eta_s=pace * (self.config.steps - step),
        )
        self.losses, self.tokens, self.mark = [], 0, now
        return line


def _saver(model: nn.Module, optimisers: Optimisers, place: Place) -> Callable[[Path], None]:
    def save(folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        state = {
            "model": model.state_dict(),
            "optimisers": [one.state_dict() for one in optimisers.all],
            "place": [place.step, place.epoch, place.batch],
            "rng": torch.get_rng_state(),
        }
        temporary = folder / "state.pt.tmp"
        torch.save(state, temporary)
        temporary.rename(folder / "state.pt")

    return save


def restore(folder: Path, model: nn.Module, optimisers: Optimisers) -> Place:
    """Loads a checkpoint into model and optimisers; gives the place it was written at."""
    state = torch.load(folder / "state.pt", weights_only=True, map_location="cpu")
    model.load_state_dict(state["model"])
    for one, saved in zip(optimisers.all, state["optimisers"], strict=True):
        one.load_state_dict(saved)
    torch.set_rng_state(state["rng"])
    return Place(*state["place"])
