"""How a backfill grows: one and two actors here, then a simulated cluster from measured seconds.

Says where it stops being linear and what stops it: Postgres or Ray's one driver.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any

from raydistill import pgserver, postgres, release
from raydistill.bench import backfill, ways
from raydistill.bench.simulation import Costs, knee, of_linear, rate
from raydistill.corpus.stages import CascadeOf, loop

FILINGS, REAL_SENTENCES = 100_000_000, 200  # sentences of a filing, on average of real ones
CHUNK = 100_000  # sentences: what a large run takes by itself
SERVER_CORES = 16
CORES = (1, 2, 8, 32, 128, 512, 1000, 2000, 4000)


def run(
    folder: Path, opened: Path, *, threads: int = 2, filings: int = 170, most: int = 1_000_000
) -> dict[str, Any]:
    """The figures, after printing them. Writes a Postgres server's folder under `folder`."""
    from raydistill.on_ray import cluster

    made = release.verify(opened.absolute())
    dsn = pgserver.start((folder / "postgres").absolute())
    try:
        backfill.fill(dsn, filings)
        cluster.start(cpus=max(2, threads))
        figures, costs = _measured(dsn, made, filings)
    finally:
        pgserver.stop((folder / "postgres").absolute())
    figures |= _simulated(costs, most)
    for name, figure in figures.items():
        print(f"{name:28} {figure}")
    return figures


def _measured(dsn: str, made: release.Release, filings: int) -> tuple[dict[str, Any], Costs]:
    """Rates of one and two actors of one thread, and what a chunk costs cores, server, driver."""
    cascade = CascadeOf(str(made.folder), 1)
    before = server_seconds(dsn)
    bare = ways.ran(dsn, made, cascade, filings, loop)
    after = server_seconds(dsn)
    spent = 0.0 if before is None or after is None else after - before
    server = spent * CHUNK / max(1, bare.every)
    rates, driver = dict[int, float](), 0.0
    for actors in (1, 2):
        ran = ways.ran(dsn, made, cascade, filings, ways.through_ray(actors))
        rates[actors] = ran.rate
        driver = ran.driver_s
    per = CHUNK / max(1, bare.sentences)
    reads, commits = bare.stages["read_s"], bare.stages["commit_s"]
    share = reads / max(1e-9, reads + commits)
    costs = Costs(
        core=sum(bare.stages.values()) * per,
        server_read=server * share,
        server_commit=server * (1 - share),
        driver=driver,
        sentences=CHUNK,
    )
    figures: dict[str, Any] = {
        "sentences_per_second_1": round(rates[1], 1),
        "sentences_per_second_2": round(rates[2], 1),
        "speedup_2": round(rates[2] / rates[1], 3),
        "core_s_per_chunk": round(costs.core, 4),
        "server_s_per_chunk": round(server, 4),
        "driver_s_per_chunk": round(driver, 4),
    }
    return figures, costs


def _simulated(costs: Costs, most: int) -> dict[str, Any]:
    """Shares of a linear speed-up at more and more cores, and the days of a large corpus."""
    shares = {n: of_linear(costs, n, SERVER_CORES, chunks=max(20, 400 // n)) for n in CORES}
    limits = costs.limits(1000, SERVER_CORES)
    at = rate(costs, 1000, SERVER_CORES)
    return {
        "of_linear": {str(n): round(share, 3) for n, share in shares.items()},
        "knee_cores": knee(costs, SERVER_CORES, most=most),
        "stopped_by": min(("postgres", "driver"), key=lambda name: limits[name]),
        "days_at_1000_cores": round(FILINGS * REAL_SENTENCES / at / 86_400, 2),
        "server_cores": SERVER_CORES,
    }


def server_seconds(dsn: str) -> float | None:
    """CPU seconds that a Postgres server on this machine has used; None where /proc tells none."""
    with postgres.connect(dsn) as connection:
        ((pid,),) = postgres.fetch(connection, "SELECT pg_backend_pid()")
        stat = Path(f"/proc/{pid}/stat")
        if not stat.exists():
            return None
        postmaster = _fields(stat)[1]
        total = sum(map(int, _fields(Path(f"/proc/{postmaster}/stat"))[11:15]))
        for one in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):  # it ended
                fields = _fields(one)
                if fields[1] == postmaster:
                    total += int(fields[11]) + int(fields[12])
    return total / 100  # USER_HZ


def _fields(stat: Path) -> list[str]:
    """What follows the name: state, parent, ..., user and system ticks, those of ended children."""
    return stat.read_text().rpartition(")")[2].split()
