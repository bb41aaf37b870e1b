"""Checkpoints: everything that a run needs to go on as if it had never stopped. No pickles."""

import errno
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from raydistill.errors import SetupError
from raydistill.student.optimise import Optimisers

_STATE = "state.pt"


@dataclass(slots=True)
class Place:
    """Where a run stands: optimiser steps done, epoch, and batches of that epoch already used."""

    step: int = 0
    epoch: int = 0
    batch: int = 0


@dataclass(slots=True)
class Best:
    """The best agreement on validation so far, validations since, and the weights it had."""

    agreement: float = -1.0
    step: int = 0
    waited: int = 0
    weights: dict[str, torch.Tensor] | None = None

    def note(self, agreement: float, step: int, model: nn.Module, *, keep: bool) -> None:
        """Takes in one validation; `keep` copies the weights when it is the best."""
        if agreement <= self.agreement:
            self.waited += 1
            return
        self.agreement, self.step, self.waited = agreement, step, 0
        if keep:
            weights = trained(model).items()
            self.weights = {name: one.detach().cpu().clone() for name, one in weights}


def trained(model: nn.Module) -> dict[str, torch.Tensor]:
    """The weights that training changes, by name, and the buffers: a frozen base is not among."""
    frozen = {name for name, one in model.named_parameters() if not one.requires_grad}
    return {name: one for name, one in model.state_dict().items() if name not in frozen}


def load_trained(model: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Puts back what `trained` gave."""
    strangers = model.load_state_dict(weights, strict=False).unexpected_keys
    missing = set(trained(model)) - set(weights)
    if strangers or missing:
        raise SetupError(
            f"the checkpoint is of another model: {sorted([*strangers, *missing])[:3]}",
            todo="delete the checkpoints beside the student's folder, and train again",
        )


@dataclass(frozen=True, slots=True)
class Saver:
    """Writes a checkpoint of a run as it stands when called."""

    model: nn.Module
    optimisers: Optimisers
    place: Place
    best: Best

    def __call__(self, folder: Path) -> None:
        """Writes into `folder` under a temporary name; SetupError where the disk is full."""
        folder.mkdir(parents=True, exist_ok=True)
        best = self.best
        state: dict[str, Any] = {
            "model": trained(self.model),
            "optimisers": [one.state_dict() for one in self.optimisers.all],
            "place": [self.place.step, self.place.epoch, self.place.batch],
            "best": [best.agreement, best.step, best.waited],
            "best_weights": best.weights,
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }
        if self.optimisers.scaler is not None:
            state["scaler"] = self.optimisers.scaler.state_dict()
        temporary = folder / f"{_STATE}.tmp"
        try:
            # Bytes through Python's own file: torch's writer hides why it failed.
            with temporary.open("wb") as file:
                torch.save(state, file)
        except (OSError, RuntimeError) as problem:
            raise _unsaved(folder, problem) from problem
        temporary.rename(folder / _STATE)


def _unsaved(folder: Path, problem: Exception) -> Exception:
    causes = [problem, problem.__context__, problem.__cause__]
    full = any(isinstance(one, OSError) and one.errno == errno.ENOSPC for one in causes)
    if not full and "No space left" not in str(problem):
        return problem
    free = shutil.disk_usage(folder).free
    return SetupError(
        f"no space for a checkpoint in {folder} ({free / 2**20:,.0f} MiB free)",
        todo="free space, or set root= to another disk; the same command goes on from the last one",
    )


def restore(folder: Path, model: nn.Module, optimisers: Optimisers) -> tuple[Place, Best]:
    """Loads a checkpoint into model and optimisers; gives where it was written."""
    state = torch.load(folder / _STATE, weights_only=True, map_location="cpu")
    load_trained(model, state["model"])
    for one, saved in zip(optimisers.all, state["optimisers"], strict=True):
        one.load_state_dict(saved)
    torch.set_rng_state(state["rng"])
    if state["cuda_rng"] and torch.cuda.device_count() == len(state["cuda_rng"]):
        torch.cuda.set_rng_state_all(state["cuda_rng"])
    if optimisers.scaler is not None and "scaler" in state:
        optimisers.scaler.load_state_dict(state["scaler"])
    agreement, step, waited = state["best"]
    best = Best(agreement, step, waited, state["best_weights"])
    return Place(*state["place"]), best
