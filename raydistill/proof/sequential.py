"""Sequential tests: watch a rate as it comes in, and stop as soon as it is sure.

A fixed-size interval that is looked at again and again is wrong far more often than it says. A
confidence sequence holds at every moment at once: it may be watched and stopped at will. This one
bets against each possible mean and rules out those that would have made the bettor rich (the hedged
capital process of Waudby-Smith and Ramdas, "Estimating means of bounded random variables by
betting", Journal of the Royal Statistical Society B 86(1), 2024; with their plug-in bets).
"""

import math
from collections.abc import Iterable
from enum import Enum

import numpy as np
from numpy.typing import NDArray

GRID = 2001
_MOST = 0.5  # of what a bet may stake: the capital never falls below a half to a bet


class Side(Enum):
    """Where the mean lies of a bar, if that is known yet."""

    above = "above"
    below = "below"
    unknown = "unknown"


class ConfidenceSequence:
    """An interval for the mean of values in 0..1 that covers it at all times, with 1 - `alpha`."""

    def __init__(self, alpha: float = 0.05, *, marks: Iterable[float] = ()) -> None:
        self.alpha = alpha
        # Bars of interest are points of the grid, so that a small rate is not lost between two.
        grid = np.unique(np.concatenate([np.linspace(0, 1, GRID), np.fromiter(marks, float)]))
        self.means: NDArray[np.float64] = grid
        self.up = np.zeros_like(grid)  # logarithms of the capital of a bettor on a higher mean
        self.down = np.zeros_like(grid)
        self.count, self.total = 0, 0.0
        self.squares = 0.25  # a prior observation's variance: the first bets are careful
        self.low, self.high = 0.0, 1.0

    def add(self, values: Iterable[float]) -> None:
        """Takes values in the order they came."""
        limit = math.log(2 / self.alpha)
        with np.errstate(divide="ignore"):
            most_up, most_down = _MOST / self.means, _MOST / (1 - self.means)
        for value in values:
            before = (0.5 + self.total) / (1 + self.count)
            spread = self.squares / (1 + self.count)
            time = self.count + 1
            bet = math.sqrt(2 * limit / (spread * time * math.log(1 + time)))
            self.up += np.log1p(np.minimum(bet, most_up) * (value - self.means))
            self.down += np.log1p(-np.minimum(bet, most_down) * (value - self.means))
            self.count += 1
            self.total += value
            mean = (0.5 + self.total) / (1 + self.count)
            self.squares += (value - before) * (value - mean)
        # Half the money on either side: a mean is ruled out when the sum is above 1 / alpha.
        capital = np.logaddexp(self.up, self.down) - math.log(2)
        left = self.means[capital < math.log(1 / self.alpha)]
        if len(left):  # once ruled out, for ever: the interval only narrows
            self.low, self.high = max(self.low, float(left[0])), min(self.high, float(left[-1]))

    @property
    def mean(self) -> float:
        """The mean of the values so far; 0.0 before the first."""
        return self.total / self.count if self.count else 0.0

    def side(self, bar: float) -> Side:
        """Where the mean lies of a bar."""
        if self.low >= bar:
            return Side.above
        return Side.below if self.high < bar else Side.unknown
