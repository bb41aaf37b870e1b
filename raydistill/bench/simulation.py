"""A cluster's backfill as a queueing model: cores, one Postgres, one driver; chunk by chunk.

Each core takes a chunk, has it read by the server, runs it, has it committed by the server; the
driver hands every chunk on, one at a time. What a chunk costs at each is measured elsewhere.
"""

import heapq
import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds that one chunk takes: of a core, of the server that reads and writes, of the driver.

    `sentences` is the chunk's size; `spread` how much chunks differ (1 is from half to one and a
    half).
    """

    core: float
    server_read: float
    server_commit: float
    driver: float
    sentences: int
    spread: float = 1.0

    def limits(self, cores: int, server_cores: int) -> dict[str, float]:
        """Sentences a second that each would let through alone."""
        each = {
            "cores": cores / self.core,
            "postgres": server_cores / max(1e-12, self.server_read + self.server_commit),
            "driver": 1 / max(1e-12, self.driver),
        }
        return {name: rate * self.sentences for name, rate in each.items()}


class _Queue:
    """A resource of so many places, first come, first served."""

    def __init__(self, places: int) -> None:
        self.free = [0.0] * places

    def __call__(self, now: float, seconds: float) -> float:
        """When a request made now is done."""
        start = max(now, heapq.heappop(self.free))
        heapq.heappush(self.free, start + seconds)
        return start + seconds


def rate(costs: Costs, cores: int, server_cores: int, *, chunks: int = 20, seed: int = 0) -> float:
    """Sentences a second in the steady state, over `chunks` chunks a core, without its start."""
    dice = random.Random(seed)
    server, driver = _Queue(server_cores), _Queue(1)
    left = cores * chunks
    # When what, of which kind: 0 asks the driver, 1 the server to read, 2 runs, 3 commits.
    events = [(dice.random() * costs.core, core, 0, 0.0) for core in range(cores)]
    heapq.heapify(events)
    done: list[float] = []
    while events:
        now, core, kind, size = heapq.heappop(events)
        if kind == 0:
            if not left:
                continue
            left -= 1
            size = 1 + costs.spread * (dice.random() - 0.5)
            heapq.heappush(events, (driver(now, costs.driver), core, 1, size))
        elif kind == 1:
            heapq.heappush(events, (server(now, costs.server_read * size), core, 2, size))
        elif kind == 2:
            heapq.heappush(events, (now + costs.core * size, core, 3, size))
        else:
            end = server(now, costs.server_commit * size)
            done.append(end)
            heapq.heappush(events, (end, core, 0, 0.0))
    done.sort()
    # The first chunks fill the cores, the last leave them idle.
    first, last = len(done) // 4, len(done) - len(done) // 4 - 1
    return (last - first) * costs.sentences / max(1e-9, done[last] - done[first])


def knee(costs: Costs, server_cores: int, *, most: int = 1_000_000, kept: float = 0.9) -> int:
    """The fewest cores at which less than `kept` of a linear speed-up is left; `most` if none."""
    low, high = 1, 2
    while high < most and _share(costs, high, server_cores) >= kept:
        low, high = high, high * 2
    if high >= most:
        return most
    while high - low > max(1, low // 50):
        middle = (low + high) // 2
        if _share(costs, middle, server_cores) >= kept:
            low = middle
        else:
            high = middle
    return high


def _share(costs: Costs, cores: int, server_cores: int) -> float:
    return of_linear(costs, cores, server_cores, chunks=max(8, 800 // cores))


def of_linear(costs: Costs, cores: int, server_cores: int, *, chunks: int = 20) -> float:
    """The rate as a share of what as many cores would do that never wait for each other."""
    alone = costs.core + costs.server_read + costs.server_commit + costs.driver
    return rate(costs, cores, server_cores, chunks=chunks) * alone / (cores * costs.sentences)
