"""What each node of a cluster is: its resources, and the versions of what runs there."""

import platform
from dataclasses import dataclass
from typing import Any

import raydistill


@dataclass(frozen=True, slots=True)
class Node:
    """One live node. Versions are those that a task on it sees, or the reason why it could not."""

    address: str
    cpus: float
    gpus: float
    python: str
    ray: str
    code: str


def nodes(patience_s: float = 60.0) -> list[Node]:
    """Every live node of the cluster that is connected, each asked by a task of its own."""
    import ray
    from ray.exceptions import GetTimeoutError, RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    live = [node for node in ray.nodes() if node["Alive"]]
    asked = ray.remote(_versions)
    # No CPU is asked for: a busy cluster answers, too.
    waits: list[Any] = [
        asked.options(
            num_cpus=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
        ).remote()
        for node in live
    ]
    out: list[Node] = []
    for node, wait in zip(live, waits, strict=True):
        try:
            python, version, code = ray.get(wait, timeout=patience_s)
        except (RayError, GetTimeoutError) as problem:
            python = version = code = f"unknown ({type(problem).__name__})"
        has = node["Resources"]
        address = f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}"
        out.append(Node(address, has.get("CPU", 0.0), has.get("GPU", 0.0), python, version, code))
    return out


def _versions() -> tuple[str, str, str]:
    import ray

    return platform.python_version(), ray.__version__, raydistill.__version__
