"""doctor: is everything here that the other verbs will need? One line a check, with what to do.

Nothing is written. What fails makes the job exit with 1; a warning or a check that had nothing to
look at does not.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

import raydistill
from raydistill import release
from raydistill.backfill import ScaleConfig
from raydistill.checks import database, finding, machine
from raydistill.checks.finding import Finding, Health
from raydistill.checks.machine import Machine
from raydistill.errors import SetupError
from raydistill.on_ray import cluster, survey
from raydistill.on_ray.survey import Node
from raydistill.pipeline import Cascade, numbered
from raydistill.source import SourceConfig
from raydistill.task import Task
from raydistill.tasks import TASKS

# A candidate for each of the stages, and text that none of them looks at twice.
_SAMPLE = (
    "On March 3, 2024, the Company entered into an amended credit agreement with First Bank.",
    "The accompanying notes are an integral part of these consolidated financial statements.",
    "The Board of Directors declared a dividend of $0.25 per share.",
    "Forward-looking statements involve risks and uncertainties that may cause results to differ.",
)


@dataclass(kw_only=True, slots=True)
class Config:
    """What to look at. `release` null: none yet. `speed_s` is how long the speed test runs.

    `ray` connects to the cluster of RAY_ADDRESS; `nodes` and `gpus` are the fewest expected there.
    """

    root: str = "runs"
    source: SourceConfig
    task: str = "filing_events"
    release: str | None = None
    scale: ScaleConfig = field(default_factory=ScaleConfig)
    disk_gib: float = 20.0
    speed_s: float = 3.0
    slow: float = 500.0
    ray: bool = True
    nodes: int = 1
    gpus: int = 0


def run(config: Config, here: Machine | None = None) -> list[Finding]:
    """Prints a line for each finding as it is made; gives them."""
    found: list[Finding] = []
    for one in findings(config, here or Machine()):
        print(one.line(), flush=True)
        found.append(one)
    bad = sum(one.health is Health.fail for one in found)
    warned = sum(one.health is Health.warn for one in found)
    print(f"doctor: {len(found)} checks, {bad} failed, {warned} warnings")
    return found


def findings(config: Config, here: Machine) -> Iterator[Finding]:
    """Every finding, the cheap ones first."""
    cores = config.scale.actors * config.scale.threads
    yield finding.ok("raydistill", raydistill.__version__)
    yield from machine.findings(
        here,
        root=Path(config.root),
        cores=cores,
        actors=config.scale.actors,
        disk_gib=config.disk_gib,
    )
    try:
        task = TASKS[config.task]
    except SetupError as problem:
        yield finding.of("task", problem)
        return
    yield from database.findings(config.source, task)
    yield from of_release(config, task)
    if config.ray:
        yield from of_ray(config)


def of_release(config: Config, task: Task) -> Iterator[Finding]:
    """Whether the release is whole and answers the task, and how fast it is here."""
    if config.release is None:
        yield finding.skip("release", "none given", "set release= once there is one")
        return
    try:
        opened = release.verify(Path(config.release), expected=task)
    except SetupError as problem:
        yield finding.of("release", problem)
        return
    yield finding.ok("release", f"{opened.name}, every hash right, task {opened.task.name}")
    if config.speed_s > 0:
        yield _speed(Cascade(opened, threads=config.scale.threads), config)


def _speed(cascade: Cascade, config: Config) -> Finding:
    """Sentences a second through all stages, of which half are candidates."""
    cascade(_sentences(0).slice(0, 50))  # the first one touches the memory
    began, count = time.monotonic(), 0
    while (spent := time.monotonic() - began) < config.speed_s:
        batch = _sentences(count + 1000)
        cascade(batch)
        count += len(batch)
    rate = count / spent
    said = f"{rate:,.0f} sentences/s by an actor of {config.scale.threads} threads"
    if rate < config.slow:
        return finding.warn(
            "speed",
            f"{said}, below slow={config.slow:g}",
            "see the lines above for the processor and threads; end what else runs here",
        )
    return finding.ok("speed", said)


def _sentences(first: int) -> pa.Table:
    """1,000 sentences, none twice: what was scored lately is not scored again."""
    some = range(first, first + 1000)
    return numbered([f"{_SAMPLE[n % len(_SAMPLE)]} No. {n}" for n in some])


def of_ray(config: Config) -> Iterator[Finding]:
    """Nodes, their cores and GPUs, and whether they all run the same versions."""
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        yield finding.skip("ray", "RAY_ADDRESS is not set: verbs start Ray on this machine alone")
        return
    try:
        cluster.start()
    except SetupError as problem:
        yield finding.of("ray", problem)
        return
    yield from judged(survey.nodes(), nodes=config.nodes, gpus=config.gpus)


def judged(found: list[Node], *, nodes: int, gpus: int) -> Iterator[Finding]:
    """Findings about a cluster's nodes, of which so many and so many GPUs are expected."""
    cpus, cards = sum(one.cpus for one in found), sum(one.gpus for one in found)
    said = f"{len(found)} nodes, {cpus:g} CPUs, {cards:g} GPUs"
    if len(found) < nodes or cards < gpus:
        yield finding.fail(
            "ray",
            f"{said}; {nodes} nodes and {gpus} GPUs expected",
            "`ray status` names who is missing; `ray up cluster.yaml` starts them again",
        )
    else:
        yield finding.ok("ray", said)
    for what in ("python", "ray", "code"):
        by: dict[str, list[str]] = {}
        for one in found:
            by.setdefault(getattr(one, what), []).append(one.address)
        if len(by) > 1:
            yield finding.fail(
                "versions",
                f"{what}: " + ", ".join(f"{v} on {' '.join(who)}" for v, who in by.items()),
                "install the same on every node (setup_commands of cluster.yaml)",
            )
