"""How wide a backfill runs: actors and threads that fit the cores, and pools of even speed.

On one machine one kind of actor holds the whole cascade (`form=laptop`). On a cluster prefilter,
skip and extract have pools of their own (`form=cluster`), as wide as their measured seconds ask
for; reads and writes keep cores that no actor reserves.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from raydistill.errors import SetupError

PARTS = ("prefilter", "skip", "extract")
EDGES = ("read", "commit")
PER = 1000  # service times are seconds of one core for so many sentences of a filing
# Reads and writes need a core's time but seldom. Actors leave them this much of it: where actors
# reserve every core, Ray has nowhere to run a read and waits for ever.
SLIVER = 0.2
_SMALLEST, _LARGEST = 2_000, 100_000  # sentences of a chunk; the largest is some 25 MB
_ROUNDS = 8  # chunks a core that a run should have


class Form(Enum):
    """One kind of actor for the whole cascade, or a pool of actors for each of its parts."""

    laptop = "laptop"
    cluster = "cluster"


@dataclass(kw_only=True, slots=True)
class ScaleConfig:
    """How wide: `actors` of `threads` cores each; `chunk` is the sentences a transaction holds, 0
    what suits the run (see `chunk_of`).

    With `form=cluster` actors x threads cores are shared out among pools. `service`: core-seconds
    for 1,000 sentences of read, prefilter, skip, extract and commit; empty: they are measured.
    Actors run on nodes with all of `labels` alone; empty: on any.
    """

    form: Form = Form.laptop
    actors: int = 2
    threads: int = 1
    chunk: int = 0
    service: dict[str, float] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if min(self.actors, self.threads) < 1 or self.chunk < 0:
            raise SetupError(
                "scale below 1", expected="actors and threads of at least 1, chunk of at least 0"
            )

    def chunk_of(self, sentences: int) -> int:
        """The sentences of a chunk in a run of so many.

        Each chunk costs Ray's one driver some 0.03 s, so they are large; but a short run has enough
        of them that reading, running and writing go on side by side on every core.
        """
        if self.chunk:
            return self.chunk
        share = sentences // (_ROUNDS * self.actors * self.threads)
        return min(_LARGEST, max(_SMALLEST, share))


@dataclass(frozen=True, slots=True)
class Pool:
    """Actors of so many threads that run these parts of the cascade."""

    parts: tuple[str, ...]
    actors: int
    threads: int
    reserved: float  # of a core, by each actor, for Ray

    @property
    def cores(self) -> int:
        """Cores that the pool keeps busy."""
        return self.actors * self.threads


@dataclass(frozen=True, slots=True)
class Plan:
    """The pools of a run in the order of the cascade, on `cores`; `service` where it is known.

    `labels` are those of the nodes that actors may run on.
    """

    pools: tuple[Pool, ...]
    cores: int
    service: Mapping[str, float]
    labels: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def rate(self) -> float | None:
        """Sentences a second that the slowest of pools, reads and writes lets through."""
        if not self.service:
            return None
        spare = max(2 * SLIVER, self.cores - sum(pool.cores for pool in self.pools))
        edges = sum(self.service[name] for name in EDGES) / spare
        pools = [sum(self.service[p] for p in pool.parts) / pool.cores for pool in self.pools]
        return PER / max(edges, *pools)

    def __str__(self) -> str:
        pools = ", ".join(
            f"{'+'.join(pool.parts)} {pool.actors} x {pool.threads}" for pool in self.pools
        )
        where = "".join(f" of nodes with {key}={value}" for key, value in self.labels.items())
        line = f"plan for {self.cores} cores{where} (actors x threads): {pools}"
        if self.service:
            times = " ".join(f"{name} {1000 * s:.1f}" for name, s in self.service.items())
            line += f"; about {self.rate:,.0f} sentences/s (core-ms a {PER}: {times})"
        return line


def laptop(actors: int, threads: int, cores: int) -> Plan:
    """One pool with the whole cascade, no wider than the cores there are."""
    threads = min(threads, cores)
    actors = max(1, min(actors, cores // threads))
    pool = Pool(PARTS, actors, threads, threads - 2 * SLIVER)
    return Plan((pool,), cores, {})


def cluster(service: Mapping[str, float], threads: int, cores: int) -> Plan:
    """A pool for each part, so wide that none waits for another, and cores for reads and writes.

    Actors of skip and extract have up to `threads` each, fewer where that is faster. SetupError
    below 4 cores, or where `service` misses a time.
    """
    if missing := [n for n in (*PARTS, *EDGES) if not service.get(n, 0) > 0]:
        raise SetupError(
            f"scale.service has no {', '.join(missing)}",
            expected=f"core-seconds a {PER} sentences of {', '.join((*EDGES, *PARTS))}",
            todo="give them all, or none: then they are measured",
        )
    if cores < 4:
        raise SetupError(
            f"scale.form=cluster on {cores} cores",
            expected="4 cores or more: one for each part and for reads and writes",
            todo="set scale.form=laptop",
        )
    # What reads and writes take of all the work, of all the cores; they get it before the pools do.
    share = sum(service[name] for name in EDGES) / sum(service.values())
    free = cores - min(cores - 3, max(1, math.ceil(share * cores)))
    widest = max(1, min(threads, (free - 1) // 2))
    sizes = range(1, widest + 1)
    plans = [Plan(_pools(service, size, free), cores, dict(service)) for size in sizes]
    best = max(plan.rate or 0.0 for plan in plans)
    # Of plans about as fast the one with the fewest actors: each holds its own models.
    return next(plan for plan in reversed(plans) if (plan.rate or 0.0) >= 0.98 * best)


def _pools(service: Mapping[str, float], threads: int, free: int) -> tuple[Pool, ...]:
    """Pools on `free` cores, the next actor always to the slowest of them."""
    size = {PARTS[0]: 1, **dict.fromkeys(PARTS[1:], threads)}
    actors = dict.fromkeys(PARTS, 1)
    left = free - sum(size.values())
    while True:
        slowest = max(PARTS, key=lambda name: service[name] / (actors[name] * size[name]))
        if size[slowest] > left:
            break
        actors[slowest] += 1
        left -= size[slowest]
    return tuple(Pool((name,), actors[name], size[name], float(size[name])) for name in PARTS)
