"""The training loop: batches in, gradients, checkpoints that resume exactly. Knows nothing of Ray.

`Workers` is what DDP adds: which batches are mine, and how the model is wrapped. Where a run is
validated, it ends at its best agreement with the teacher, not at its lowest loss.
"""

import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from raydistill.errors import SetupError
from raydistill.student.checkpoint import Best, Place, Saver, load_trained, restore
from raydistill.student.examples import Examples, epoch
from raydistill.student.optimise import Optimiser, Optimisers


@dataclass(kw_only=True, slots=True)
class FitConfig:
    """How a student is trained. Rates are peak learning rates; `steps` are optimiser steps.

    `pack` is the columns of a line in which a decoder's rows follow each other, 0 for a row a line;
    `shift` the share (0..1) of a seq2seq student's lessons that begin at another input position.
    `head_rate` is AdamW's for what an encoder gets on top of it, 0 for `adamw_rate`.
    Every `validate_every` steps (0: never) the student answers `validate_rows` sentences of
    validation; `patience` validations without a better agreement end the run (0: none does).
    """

    steps: int = 300
    batch_tokens: int = 4096
    accumulate: int = 1
    optimiser: Optimiser = Optimiser.muon
    muon_rate: float = 0.02
    adamw_rate: float = 3e-3
    head_rate: float = 0.0
    weight_decay: float = 0.0
    warmup: int = 40
    final: float = 0.02
    clip: float = 1.0
    seed: int = 0
    bf16: bool = True
    fp16: bool = False
    gradient_checkpointing: bool = False
    pack: int = 0
    shift: float = 0.0
    validate_every: int = 0
    validate_rows: int = 200
    patience: int = 3
    log_every: int = 10
    checkpoint_every: int = 100

    def __post_init__(self) -> None:
        for name in ("steps", "batch_tokens", "accumulate", "log_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise SetupError(f"train.fit.{name}={getattr(self, name)}", expected="at least 1")
        for name in ("pack", "validate_every", "patience"):
            if getattr(self, name) < 0:
                raise SetupError(f"train.fit.{name}={getattr(self, name)}", expected="at least 0")
        if not 0 <= self.shift <= 1:
            raise SetupError(f"train.fit.shift={self.shift}", expected="a share from 0 to 1")
        if self.fp16 and self.bf16:
            self.bf16 = False  # stated beside the default


class Learner(Protocol):
    """What is being taught: its model, and the loss of some rows of its examples."""

    model: nn.Module
    examples: Examples

    def loss(self, model: nn.Module, rows: Any, device: torch.device) -> tuple[torch.Tensor, int]:
        """Mean loss over the rows' label tokens, and how many those are."""
        ...


@dataclass(frozen=True, slots=True)
class Workers:
    """This process among the workers of a run; alone by default.

    `agreed` gives every worker the first one's number.
    """

    rank: int = 0
    count: int = 1
    wrap: Callable[[nn.Module], nn.Module] = field(default=lambda model: model)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    agreed: Callable[[float], float] = field(default=lambda value: value)


@dataclass(frozen=True, slots=True)
class Progress:
    """One line of the log; `eta_s` and `seconds` in seconds, `tokens_per_s` of all workers.

    `agreement` is the last validation's, 0..1; -1 where there was none.
    """

    step: int
    steps: int
    loss: float
    rate: float
    tokens_per_s: float
    seconds: float
    eta_s: float
    agreement: float = -1.0


Report = Callable[[Progress, Callable[[Path], None] | None], None]


def fit(
    learner: Learner,
    config: FitConfig,
    *,
    workers: Workers | None = None,
    report: Report | None = None,
    resume: Path | None = None,
    validate: Callable[[], float] | None = None,
) -> Place:
    """Trains `learner.model` in place; gives where the run ended.

    `report` gets a Progress every `log_every` steps and, every `checkpoint_every`, a function that
    writes a checkpoint folder, which a later call takes as `resume`. `validate` gives the agreement
    of `learner.model` with the teacher, 0..1; the first worker is asked. Raises SetupError on a
    loss that is not finite and where memory does not suffice.
    """
    workers = workers or Workers()
    if not len(learner.examples):
        raise SetupError("no training examples", todo="check the dataset and train.max_input")
    learner.model.to(workers.device)
    optimisers = Optimisers(learner.model, config, scaler=_scaler(config, workers.device))
    place, best = restore(resume, learner.model, optimisers) if resume else (Place(), Best())
    if config.gradient_checkpointing:
        _checkpoint_gradients(learner.model)
    model = workers.wrap(learner.model)
    model.train()
    meter = _Meter(config, place.step)
    batches = _mine(learner.examples, config, place, workers)
    while place.step < config.steps:
        with _memory(config):
            loss, tokens = _update(learner, model, batches, config, workers, optimisers)
        _check(loss, place.step)
        rate = optimisers.step(place.step)
        place.step += 1
        meter.add(loss, tokens * workers.count)
        ended = place.step == config.steps
        if validate and config.validate_every:
            if ended or place.step % config.validate_every == 0:
                meter.agreement = _validated(validate, model, workers)
                best.note(meter.agreement, place.step, learner.model, keep=workers.rank == 0)
            ended = ended or 0 < config.patience <= best.waited
        if report and (place.step % config.log_every == 0 or ended):
            save = None
            if place.step % config.checkpoint_every == 0 or ended:
                now = Place(place.step, place.epoch, place.batch)
                save = Saver(learner.model, optimisers, now, best)
            report(meter.line(place.step, rate), save)
        if ended:
            break
    if best.weights is not None:
        load_trained(learner.model, best.weights)
    return place


def _update(
    learner: Learner,
    model: nn.Module,
    batches: Iterator[tuple[Any, float]],
    config: FitConfig,
    workers: Workers,
    optimisers: Optimisers,
) -> tuple[float, int]:
    """Adds the gradients of one step; gives its mean loss and its tokens."""
    total, tokens = 0.0, 0
    for part in range(config.accumulate):
        rows, active = next(batches)
        last = part == config.accumulate - 1
        with _no_sync(model, last):
            with _autocast(config, workers.device):
                value, count = learner.loss(model, rows, workers.device)
                scaled = value * (active / config.accumulate)
            if optimisers.scaler is not None:
                scaled = optimisers.scaler.scale(scaled)
            scaled.backward()
        total += float(value.detach()) / config.accumulate
        tokens += count
    return total, tokens


def _validated(validate: Callable[[], float], model: nn.Module, workers: Workers) -> float:
    model.eval()
    found = validate() if workers.rank == 0 else 0.0
    model.train()
    return workers.agreed(found)


def _scaler(config: FitConfig, device: torch.device) -> Any:
    """Loss scaling, which fp16 needs and CPUs do not have."""
    if not config.fp16:
        return None
    if device.type != "cuda":
        raise SetupError(
            f"train.fit.fp16=true on {device.type}",
            expected="a GPU",
            todo="set fit.fp16=false fit.bf16=true, or gpu=true",
        )
    return torch.amp.GradScaler("cuda")


def _checkpoint_gradients(model: nn.Module) -> None:
    headed = hasattr(model, "head") or hasattr(model, "head_slots")  # ours, on an encoder
    inner: Any = getattr(model, "encoder", model) if headed else model
    if hasattr(inner, "enable_input_require_grads"):
        inner.enable_input_require_grads()  # else a frozen base gives adapters no gradient
    # transformers 5.23 gives it a new name.
    enable = getattr(inner, "activation_checkpointing_enable", None)
    if enable is None:
        inner.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    else:
        enable(activation_checkpointing_kwargs={"use_reentrant": False})


@contextmanager
def _memory(config: FitConfig) -> Generator[None]:
    """Turns an allocation that failed into advice."""
    try:
        yield
    except (MemoryError, RuntimeError) as problem:
        text = str(problem)
        lacking = ("out of memory", "allocate memory", "not enough memory")
        if not isinstance(problem, MemoryError) and not any(one in text for one in lacking):
            raise
        raise SetupError(
            f"out of memory at fit.batch_tokens={config.batch_tokens}: {text[:160]}",
            todo=f"set fit.batch_tokens={max(256, config.batch_tokens // 2)}"
            f" fit.accumulate={config.accumulate * 2}, or fit.gradient_checkpointing=true",
        ) from None


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
    if not (config.bf16 or config.fp16):
        return nullcontext()
    return torch.autocast(device.type, torch.float16 if config.fp16 else torch.bfloat16)


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
        self.agreement = -1.0

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
            agreement=self.agreement,
        )
        self.losses, self.tokens, self.mark = [], 0, now
        return line


def from_first(value: float, device: torch.device) -> float:
    """The first worker's number, on every worker of a run."""
    held = torch.tensor([value], dtype=torch.float64, device=device)
    torch.distributed.broadcast(held, 0)
    return float(held.item())
