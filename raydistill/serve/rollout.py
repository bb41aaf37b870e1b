"""The gradual way from teacher to student: modes, shares, and the way back when a gate is crossed.

The state is one small JSON file that every process reads again when it changes, so a change needs
no restart and reaches all of them. Modes are rungs of a ladder; a fall-back goes to the mode
before, and never up.
"""

import hashlib
import json
import os
import random
import tempfile
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from enum import Enum
from pathlib import Path
from typing import Any

from raydistill.errors import SetupError
from raydistill.intervals import clopper_pearson


class Mode(Enum):
    """Who answers, from the teacher alone to the student alone."""

    teacher_only = "teacher_only"
    shadow = "shadow"
    canary = "canary"
    student_first = "student_first"
    student_only = "student_only"


LADDER = tuple(Mode)
SEEN = (Mode.canary, Mode.student_first, Mode.student_only)
"""Modes in which users see the student's answers: only they can fall back."""


@dataclass(kw_only=True, slots=True)
class RolloutConfig:
    """Where to begin, and when to go back.

    `share` of the keys is the student's in a canary; `mirror` is the share of the requests that
    the other side is asked about, too, unseen. `confidence` is the least with which student_first
    believes the student. The gate looks at the last `window` comparisons, `least` at least: it is
    crossed when the lower bound of agreement falls below `agreement`, or when more than `errors` of
    the student's last `window` answers failed.
    """

    mode: Mode = Mode.student_only
    share: float = 0.05
    mirror: float = 0.1
    confidence: float = 0.5
    state: str | None = None
    agreement: float = 0.8
    errors: float = 0.02
    least: int = 100
    window: int = 1000
    level: float = 0.95

    def __post_init__(self) -> None:
        shares = ("share", "mirror", "confidence", "agreement", "errors", "level")
        wrong = [name for name in shares if not 0 <= getattr(self, name) <= 1]
        if wrong or not 1 <= self.least <= self.window:
            raise SetupError(
                f"rollout: {', '.join(wrong) or f'least={self.least}, window={self.window}'}",
                expected="shares between 0 and 1, and 1 <= least <= window",
            )


@dataclass(frozen=True, slots=True)
class State:
    """The mode now, its shares, the mode before it, since when and why."""

    mode: Mode
    share: float
    mirror: float
    confidence: float
    previous: Mode | None = None
    since: str = ""
    reason: str = ""

    def told(self) -> dict[str, Any]:
        """The state as plain values."""
        previous = self.previous.value if self.previous else None
        return asdict(self) | {"mode": self.mode.value, "previous": previous}


def below(state: State) -> Mode | None:
    """Where a fall-back leads: the mode before, if it is a lower rung, else the next lower one."""
    rung = LADDER.index(state.mode)
    if state.previous is not None and LADDER.index(state.previous) < rung:
        return state.previous
    return LADDER[rung - 1] if rung else None


class Rollout:
    """The state in a file, or in memory where `config.state` is null."""

    def __init__(self, config: RolloutConfig, *, look_s: float = 1.0) -> None:
        self.config = config
        self.file = Path(config.state) if config.state else None
        self.look_s = look_s
        self._state = State(
            config.mode, config.share, config.mirror, config.confidence, since=_now()
        )
        self._stamp: tuple[int, int] | None = None
        self._looked = 0.0
        if self.file is not None and self.file.exists():
            self._read(self.file)

    @property
    def state(self) -> State:
        """The state now; the file is looked at once a `look_s`."""
        if self.file is not None and (now := time.monotonic()) - self._looked > self.look_s:
            self._looked = now
            if _stamp(self.file) != self._stamp and self.file.exists():
                self._read(self.file)
        return self._state

    def _read(self, file: Path) -> None:
        self._stamp = _stamp(file)
        try:
            self._state = state(json.loads(file.read_text()))
        except (OSError, ValueError, TypeError, KeyError) as problem:
            if not self._state.since:
                raise SetupError(f"{file}: {problem}", expected="a rollout's state") from None

    def change(self, *, reason: str, **changes: Any) -> State:
        """Sets `mode`, `share`, `mirror`, `confidence` or some of them, for every process."""
        before = self.state
        made = replace(before, **changes, reason=reason)
        if made.mode is not before.mode:
            made = replace(made, previous=before.mode, since=_now())
        self._state = made
        if self.file is not None:
            _replaced(self.file, json.dumps(made.told(), indent=2))
            self._stamp = _stamp(self.file)
        return made

    def fall_back(self, reason: str) -> State | None:
        """One rung down, where there is one."""
        target = below(self.state)
        if target is None:
            return None
        made = self.change(reason=f"fell back: {reason}", mode=target)
        self._state = made = replace(made, previous=None)  # the next fall goes further down
        if self.file is not None:
            _replaced(self.file, json.dumps(made.told(), indent=2))
            self._stamp = _stamp(self.file)
        return made


def state(value: dict[str, Any]) -> State:
    """A state of its plain values."""
    previous = value.get("previous")
    return State(
        Mode(value["mode"]),
        float(value["share"]),
        float(value["mirror"]),
        float(value["confidence"]),
        Mode(previous) if previous else None,
        str(value.get("since", "")),
        str(value.get("reason", "")),
    )


def sticky(key: str) -> float:
    """A number in [0, 1) that is always the same for a key: below `share` it is the student's."""
    digest = hashlib.blake2b(key.encode(errors="replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


class Gate:
    """The last comparisons and student answers, and whether they still are good enough."""

    def __init__(self, config: RolloutConfig) -> None:
        self.config = config
        self.agreed: deque[bool] = deque(maxlen=config.window)
        self.failed: deque[bool] = deque(maxlen=config.window)

    def clear(self) -> None:
        """Forgets all: another mode begins."""
        self.agreed.clear()
        self.failed.clear()

    def bounds(self) -> tuple[float, float]:
        """The interval of agreement over the window."""
        return clopper_pearson(sum(self.agreed), len(self.agreed), self.config.level)

    def crossed(self) -> str | None:
        """Why the student should step back, or None."""
        count, config = len(self.agreed), self.config
        if count >= config.least and (low := self.bounds()[0]) < config.agreement:
            return f"agreement {sum(self.agreed)}/{count}, lower bound {low:.3f}"
        errors = sum(self.failed)
        if len(self.failed) >= config.least and errors > config.errors * len(self.failed):
            return f"{errors} of the student's last {len(self.failed)} answers failed"
        return None


def dice(seed: int | None = None) -> Callable[[], float]:
    """Draws from [0, 1), for what is mirrored."""
    return random.Random(seed).random


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def _stamp(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


def _replaced(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    with os.fdopen(handle, "w") as stream:
        stream.write(text)
    Path(temporary).replace(file)
