"""Optimisers and their schedule: Muon for matrices with AdamW for the rest, or AdamW alone."""

from enum import Enum
from typing import Any, Protocol

import torch
from torch import nn

from raydistill.errors import SetupError


class Optimiser(Enum):
    """`muon` (Jordan et al. 2024) for students from scratch, `adamw` for pretrained ones."""

    muon = "muon"
    adamw = "adamw"


class Rates(Protocol):
    """The part of a FitConfig that is read here."""

    steps: int
    optimiser: Optimiser
    muon_rate: float
    adamw_rate: float
    weight_decay: float
    warmup: int
    final: float
    clip: float


class Optimisers:
    """One or two optimisers behind one step, one schedule for both."""

    def __init__(self, model: nn.Module, config: Rates, *, scaler: Any = None) -> None:
        matrices: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for name, parameter in model.named_parameters():
            inside = parameter.ndim == 2 and "embed" not in name and "head" not in name
            if parameter.requires_grad:
                muon = inside and config.optimiser is Optimiser.muon
                (matrices if muon else others).append(parameter)
        self.config, self.scaler = config, scaler
        self.parameters = [*matrices, *others]
        decay = config.weight_decay
        self.all: list[torch.optim.Optimizer] = []
        if matrices:
            self.all.append(torch.optim.Muon(matrices, lr=config.muon_rate, weight_decay=decay))
        if others:
            adamw = torch.optim.AdamW
            self.all.append(
                adamw(others, lr=config.adamw_rate, betas=(0.9, 0.95), weight_decay=decay)
            )
        if not self.all:
            raise SetupError("the student has no weights to train", todo="check train.lora")
        self.peaks = [group["lr"] for one in self.all for group in one.param_groups]

    def step(self, number: int) -> float:
        """One clipped update at the rate of step `number`; gives the share of the peak rate."""
        if self.scaler is not None:
            for one in self.all:
                self.scaler.unscale_(one)
        nn.utils.clip_grad_norm_(self.parameters, self.config.clip)
        share = schedule(number, self.config)
        groups = (group for one in self.all for group in one.param_groups)
        for group, peak in zip(groups, self.peaks, strict=True):
            group["lr"] = peak * share
        for one in self.all:
            if self.scaler is None:
                one.step()
            else:
                self.scaler.step(one)
            one.zero_grad(set_to_none=True)
        if self.scaler is not None:
            self.scaler.update()
        return share


def schedule(step: int, config: Rates) -> float:
    """The share of the peak rate at a step: linear warm-up, then linear decay to `final`."""
    warmup = min(config.warmup, max(1, config.steps // 4))
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, config.steps - warmup)
    return 1.0 - (1.0 - config.final) * done
