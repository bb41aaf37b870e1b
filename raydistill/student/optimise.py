"""Optimisers and their schedule: Muon for matrices with AdamW for the rest, or AdamW alone."""

from collections import defaultdict
from collections.abc import Iterator
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
    head_rate: float
    weight_decay: float
    warmup: int
    final: float
    clip: float


_AT_ONCE = 1 << 24  # numbers of the matrices that are orthogonalised together: 32 MB in bf16


class Muon(torch.optim.Muon):
    """torch's Muon, whose steps orthogonalise all matrices of a shape at once.

    A small student has dozens of small matrices, and matrix by matrix their iterations took 29 % of
    a training on CPUs. State and hyperparameters are torch's own.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update of every parameter that has a gradient."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            taught, grads, buffers = [], [], []
            self._init_group(group, taught, grads, buffers)
            for same in _alike(taught):
                self._update(group, [(taught[at], grads[at], buffers[at]) for at in same])
        return loss

    def _update(self, group: dict[str, Any], parts: list[tuple[Any, Any, Any]]) -> None:
        rate, momentum = float(group["lr"]), group["momentum"]
        wanted = []
        for _, grad, buffer in parts:
            buffer.lerp_(grad, 1 - momentum)
            wanted.append(grad.lerp(buffer, momentum) if group["nesterov"] else buffer)
        made = _orthogonal(torch.stack(wanted), group)
        rows, columns = wanted[0].shape
        scale = max(1.0, rows / columns) ** 0.5
        for (parameter, _, _), one in zip(parts, made, strict=True):
            parameter.mul_(1 - rate * group["weight_decay"])
            parameter.add_(one, alpha=-rate * scale)


def _alike(parameters: list[torch.Tensor]) -> Iterator[list[int]]:
    """Indices of parameters of one shape and device, in runs of at most `_AT_ONCE` numbers."""
    shapes: dict[Any, list[int]] = defaultdict(list)
    for at, one in enumerate(parameters):
        shapes[one.shape, one.device].append(at)
    for (shape, _), all_of_it in shapes.items():
        count = max(1, _AT_ONCE // shape.numel())
        for start in range(0, len(all_of_it), count):
            yield all_of_it[start : start + count]


def _orthogonal(stack: torch.Tensor, group: dict[str, Any]) -> torch.Tensor:
    """Newton-Schulz iterations (Jordan et al. 2024) over matrices (count, rows, columns)."""
    a, b, c = group["ns_coefficients"]
    tall = stack.shape[1] > stack.shape[2]
    x = (stack.mT if tall else stack).bfloat16()
    x = x / x.flatten(1).norm(dim=1).clamp(min=group["eps"])[:, None, None]
    for _ in range(group["ns_steps"]):
        gram = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Optimisers:
    """One or two optimisers behind one step, one schedule for both."""

    def __init__(self, model: nn.Module, config: Rates, *, scaler: Any = None) -> None:
        matrices: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        heads: list[nn.Parameter] = []
        for name, parameter in model.named_parameters():
            inside = parameter.ndim == 2 and "embed" not in name and "head" not in name
            if parameter.requires_grad:
                muon = inside and config.optimiser is Optimiser.muon
                on_top = config.head_rate > 0 and not name.startswith("encoder.")
                (matrices if muon else heads if on_top else others).append(parameter)
        self.config, self.scaler = config, scaler
        self.parameters = [*matrices, *others, *heads]
        decay = config.weight_decay
        self.all: list[torch.optim.Optimizer] = []
        if matrices:
            self.all.append(Muon(matrices, lr=config.muon_rate, weight_decay=decay))
        for some, rate in ((others, config.adamw_rate), (heads, config.head_rate)):
            if some:
                adamw = torch.optim.AdamW(some, lr=rate, betas=(0.9, 0.95), weight_decay=decay)
                self.all.append(adamw)
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
