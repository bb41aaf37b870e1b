"""Speed: what training costs a machine, against what its matrix products can do."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from raydistill.student.examples import epoch
from raydistill.student.fit import FitConfig, Learner, Workers, fit

_SIDE = {"cpu": 1536, "cuda": 8192}


@dataclass(frozen=True, slots=True)
class Pace:
    """Training of one student: tokens and floating-point operations a second, share of the peak."""

    parameters: int
    tokens_per_second: float
    step_seconds: float
    tflops: float
    mfu: float

    def spec(self) -> dict[str, Any]:
        """As plain numbers."""
        return asdict(self)


def matmul_peak(device: torch.device, *, bf16: bool, seconds: float = 1.0) -> float:
    """The best floating-point operations a second of a large square matrix product here."""
    side = _SIDE[device.type]
    kind = torch.bfloat16 if bf16 else torch.float32
    one = torch.randn(side, side, device=device).to(kind)
    other = torch.randn(side, side, device=device).to(kind)
    best, began = float("inf"), time.perf_counter()
    while time.perf_counter() - began < seconds:
        best = min(best, _timed(lambda: torch.mm(one, other), device))
    return 2 * side**3 / best


def _timed(act: Callable[[], Any], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    act()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def pace(
    learner: Learner, config: FitConfig, device: torch.device, *, steps: int, peak: float
) -> Pace:
    """How fast `steps` steps are; two more go before them to warm up.

    Operations are counted, not estimated: those of matrix products in both directions, on the
    epoch's first batches.
    """
    learner.model.to(device)
    settings = replace(config, steps=steps + 2, log_every=1, validate_every=0)
    marks: list[float] = []

    def report(_: Any, __: Any) -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()
        marks.append(time.perf_counter())

    fit(learner, settings, workers=Workers(device=device), report=report)
    seconds = (marks[-1] - marks[1]) / steps
    batches = epoch(learner.examples, seed=config.seed, number=0, batch_tokens=config.batch_tokens)
    used = batches[2 : 2 + steps] or batches
    tokens = float(np.mean([learner.examples.costs[rows].sum() for rows in used]))
    operations = float(np.mean([_operations(learner, rows, device) for rows in used[:3]]))
    rate = operations * config.accumulate / seconds
    size = sum(one.numel() for one in learner.model.parameters())
    return Pace(size, tokens * config.accumulate / seconds, seconds, rate / 1e12, rate / peak)


def _operations(learner: Learner, rows: Any, device: torch.device) -> int:
    counter = FlopCounterMode(display=False)
    with counter:
        loss, _ = learner.loss(learner.model, rows, device)
        loss.backward()
    learner.model.zero_grad(set_to_none=True)
    return counter.get_total_flops()


def device_of() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def use_threads(threads: int) -> None:
    """Lets torch use this many CPU threads."""
    torch.set_num_threads(threads)
