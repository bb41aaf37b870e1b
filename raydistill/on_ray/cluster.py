"""Joining or starting Ray, the same way for every verb."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raydistill.errors import SetupError

# Of nodes that are started here. Workers keep the niceness of this process, since Ray's default of
# 15 starves them beside any other busy one. They stay for the next task: Ray ends those that wait
# for a second, and a backfill then spent a fifth of its cores on new ones.
WORKERS = {
    "RAY_worker_niceness": "0",
    "RAY_idle_worker_killing_time_threshold_ms": "600000",
}


def start(*, cpus: int | None = None) -> None:
    """Connects to the cluster of RAY_ADDRESS or of the job, else starts a local one."""
    for name, value in WORKERS.items():
        os.environ.setdefault(name, value)
    # A thread that still waits for rows after the end must not start a second cluster.
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    import ray

    if ray.is_initialized():
        return
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if not joined():
        options |= {"num_cpus": cpus, "include_dashboard": False}
    # Ray tells its own story on several loggers; ours is one line of progress.
    for name in ("ray", "ray.data", "ray.train", "ray._private.authentication"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        ray.init(**options)
    except (ConnectionError, ValueError) as problem:
        raise SetupError(
            f"Ray cannot be reached: {problem}",
            expected="a cluster at RAY_ADDRESS, or none set to start one here",
            todo="start it with `ray start --head`, or unset RAY_ADDRESS",
        ) from None
    _quiet()


def joined() -> bool:
    """Whether this process is told of a cluster, instead of starting one here."""
    return bool(os.environ.get("RAY_ADDRESS"))


def nodes() -> int:
    """How many nodes are alive."""
    import ray

    return sum(bool(node["Alive"]) for node in ray.nodes())


def cores_of(labels: Mapping[str, str]) -> int:
    """Cores of the live nodes that have all of these labels.

    SetupError where there is no such node: Ray itself would wait for one for ever.
    """
    import ray

    live: list[dict[str, Any]] = [node for node in ray.nodes() if node["Alive"]]
    there = [node for node in live if labels.items() <= node.get("Labels", {}).items()]
    if not there:
        known = {f"{k}={v}" for node in live for k, v in node.get("Labels", {}).items()}
        own = sorted(one for one in known if not one.startswith("ray.io/"))
        raise SetupError(
            f"scale.labels={dict(labels)}, and no node has these labels",
            expected=f"nodes started with them; there are {', '.join(own) or 'none'}",
            todo="start workers with `ray start --labels=KEY=VALUE`, or set scale.labels={}",
        )
    return max(1, int(sum(node["Resources"].get("CPU", 0.0) for node in there)))


def _quiet() -> None:
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    for name in ("ray.data", "ray.train"):  # importing them sets their levels again
        logging.getLogger(name).setLevel(logging.ERROR)


def jemalloc() -> dict[str, str]:
    """Environment of train workers: an allocator that keeps huge pages, 1.6x faster on CPUs."""
    import ray

    library = Path(ray.__file__).parent / "core" / "libjemalloc.so"
    if not library.is_file():
        return {}
    return {
        "LD_PRELOAD": str(library),
        "MALLOC_CONF": "thp:always,dirty_decay_ms:-1,muzzy_decay_ms:-1",
        # Kernels of all the shapes that batches have; each takes about a megabyte.
        "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "3072",
    }
