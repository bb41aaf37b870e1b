"""What `serve` is told: addresses, sizes, releases; and the service that comes of it."""

import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from fastapi import FastAPI

from raydistill import postgres
from raydistill.errors import SetupError
from raydistill.serve import app
from raydistill.serve.answerers import opened
from raydistill.serve.front import Doors, is_loopback
from raydistill.serve.limits import Limits, Usage
from raydistill.serve.metrics import Metrics
from raydistill.serve.mirror import Mirror
from raydistill.serve.rollout import Mode, Rollout, RolloutConfig
from raydistill.serve.service import Service
from raydistill.serve.student import Student
from raydistill.serve.teacher import Teacher, TeacherConfig
from raydistill.serve.tokens import EXTRACT, Tokens
from raydistill.web import quality, router
from raydistill.web.review import Queue


class Runtime(Enum):
    """Where the routes and the stages run.

    `serve`: both in Ray Serve, behind its proxies. `ray`: the routes in this process, the stages
    in Ray Serve's replicas. `local`: both in this process, without Ray.
    """

    serve = "serve"
    ray = "ray"
    local = "local"


class Action(Enum):
    """Run the service, keep its tokens, or change a running one's mode."""

    run = "run"
    token = "token"
    revoke = "revoke"
    tokens = "tokens"
    mode = "mode"


@dataclass(kw_only=True, slots=True)
class Config:
    """What answers, where it listens, whom it lets in.

    `release` may be a link that the registry keeps: the service follows it. `releases` are further
    ones, for other tasks. `threads` and `replicas` are planned from the cores where they are
    null. `database` (a libpq URI without a password) takes comparisons, traffic and reviews.
    """

    root: str = "runs"
    action: Action = Action.run
    runtime: Runtime = Runtime.serve
    release: str
    releases: list[str] = field(default_factory=list)
    task: str = "filing_events"
    host: str = "127.0.0.1"
    port: int = 8000
    hosts: list[str] = field(default_factory=list)
    tls_cert: str | None = None
    tls_key: str | None = None
    tokens: str | None = None
    threads: int | None = None
    replicas: int | None = None
    ingress: int = 1
    batch_tokens: int = 4096
    watch_s: float = 2.0
    drain_s: float = 20.0
    database: str | None = None
    log_text: bool = False
    page: bool = True
    limits: Limits = field(default_factory=Limits)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    name: str | None = None
    scopes: list[str] = field(default_factory=lambda: [EXTRACT])
    rate_per_s: float | None = None
    quota: int | None = None
    mode: Mode | None = None
    share: float | None = None

    def __post_init__(self) -> None:
        sizes = (self.threads or 1, self.replicas or 1, self.ingress, self.batch_tokens)
        if min(sizes) < 1 or not 0 <= self.port < 65536 or self.watch_s <= 0 or self.drain_s < 0:
            raise SetupError(
                f"threads={self.threads}, replicas={self.replicas}, ingress={self.ingress},"
                f" batch_tokens={self.batch_tokens}, port={self.port}",
                expected="at least 1 each, and a port below 65536",
            )


@dataclass(frozen=True, slots=True)
class Plan:
    """Replicas of the cascade, and threads of each."""

    replicas: int
    threads: int


def plan(config: Config, cores: int) -> Plan:
    """Four threads a replica at most: the stages' Python runs on one of them."""
    threads = config.threads or min(4, cores)
    return Plan(config.replicas or max(1, cores // threads), threads)


def checked(config: Config) -> Config:
    """The config with absolute paths. Raises SetupError where it would open a door to everybody."""
    if config.tokens is None and not is_loopback(config.host):
        raise SetupError(
            f"host={config.host} without tokens: everybody who reaches it could ask",
            expected="host=127.0.0.1, or tokens=FILE",
            todo="python jobs/serve.py action=token name=NAME tokens=FILE, then tokens=FILE here",
        )
    if (config.tls_cert is None) != (config.tls_key is None):
        raise SetupError("one of tls_cert and tls_key alone", expected="both, or neither")
    for file in (config.tls_cert, config.tls_key, config.tokens):
        if file is not None and not Path(file).is_file():
            raise SetupError(f"{file} is missing", todo="correct tls_cert=, tls_key= or tokens=")
    if config.database is not None:
        postgres.refuse_password(config.database)
    first = opened(paths(config))
    if config.task not in first or first[config.task] is not next(iter(first.values())):
        raise SetupError(
            f"{config.release} does not answer {config.task}",
            expected=f"a release of {config.task}, or task={next(iter(first))}",
            todo="correct release= or task=",
        )
    if config.rollout.state:
        config.rollout.state = str(Path(config.rollout.state).absolute())
    if config.tokens:
        config.tokens = str(Path(config.tokens).absolute())
    return config


def paths(config: Config) -> list[str]:
    """The releases' paths, the one of /v1/extract first; links stay links."""
    return [os.path.abspath(one) for one in (config.release, *config.releases)]  # noqa: PTH100


def folders(config: Config) -> dict[str, str]:
    """The path of each task's release."""
    return {task: path for path in paths(config) for task in opened([path])}


def service(config: Config, student: Student, environment: Mapping[str, str]) -> Service:
    """The service of a config over a student. The teacher's key comes from the environment."""
    metrics = Metrics()
    releases = opened(paths(config))
    teacher = None
    if config.teacher.url is not None:
        name = config.teacher.key_env
        if name and not environment.get(name):
            raise SetupError(
                f"the environment variable {name} is not set",
                expected="the teacher's key in it",
                todo=f"export {name}=..., or set teacher.key_env=null",
            )
        key = environment[name] if name else None
        teacher = Teacher(config.teacher, folders(config), key=key)

    def dropped(reason: str, count: int) -> None:
        metrics.dropped.labels(reason).inc(count)

    tasks = {name: one.task_named(name) for name, one in releases.items()}
    return Service(
        student=student,
        releases=releases,
        rollout=Rollout(config.rollout),
        mirror=Mirror(config.database, dropped=dropped, tasks=tasks),
        metrics=metrics,
        teacher=teacher,
    )


def application(config: Config, made: Service, *, behind_proxy: bool = False) -> FastAPI:
    """The application of a config: routes, doors and the page."""
    tokens = Tokens(Path(config.tokens) if config.tokens else None)
    hosts = ("127.0.0.1", "localhost", "[::1]", *config.hosts)
    routers = []
    if config.page:
        task = made.task(config.task)
        queue = Queue(config.database, task) if config.database else None
        gate = config.rollout.agreement
        measured = quality.of(config.database, task, gate=gate) if config.database else None
        routers = [router.pages(), router.reviews(queue), router.quality(measured)]
    return app.create(
        made,
        limits=config.limits,
        doors=Doors(
            tokens=tokens, usage=Usage(config.ingress), hosts=hosts, behind_proxy=behind_proxy
        ),
        routers=routers,
        log_text=config.log_text,
        folders=folders(config),
        main=config.task,
    )


def logging_to_stderr() -> None:
    """One line of JSON a request on standard error, and nothing of other libraries."""
    log = logging.getLogger("raydistill.serve")
    if not log.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
