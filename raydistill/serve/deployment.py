"""Ray Serve: replicas of the cascade, and an ingress with the routes where Serve has those, too.

`serve run conf/serve/app.yaml` finds `app` here. The routes' process gathers sentences into batches
and sends each to a replica; what a dying replica takes along is asked again of another.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from fastapi import FastAPI
from ray import serve
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from raydistill import config as yaml
from raydistill.errors import FilingError
from raydistill.pipeline import Decision
from raydistill.serve import settings
from raydistill.serve.answerers import Answerers
from raydistill.serve.batcher import Batcher, Decided
from raydistill.serve.front import is_loopback
from raydistill.serve.problems import Problem, busy
from raydistill.serve.settings import Config, Plan
from raydistill.serve.student import LocalStudent, Split, split

NAME = "raydistill"
AHEAD = 2  # batches under way a replica: one runs, the next lies ready
_TRIES = 4
_QUIET = {"enable_access_log": False}  # the front has a line of its own for each request
_SLIVER = 0.2  # of a core, for what mostly waits


class Student:
    """One replica: warm releases that follow their links."""

    def __init__(self, config: Config, threads: int) -> None:
        # Its one thread runs one batch at a time; the batches themselves are cut by the ingress.
        held = Answerers(settings.paths(config), threads=threads)
        self.local = LocalStudent(held, watch_s=config.watch_s, most=config.batch_tokens)

    async def decide(self, task: str, texts: list[str], background: bool) -> Decided[Decision]:
        """The decision for each text."""
        return await self.local.decide(task, texts, background=background)

    async def split(self, name: str, data: bytes) -> Split | tuple[str, str]:
        """A filing as text and sentences, or its error: exceptions travel as tracebacks."""
        try:
            return await asyncio.to_thread(split, name, data)
        except FilingError as problem:
            return problem.code, problem.detail


class RemoteStudent:
    """The replicas, as the ingress sees them."""

    def __init__(
        self, handle: DeploymentHandle, tasks: Sequence[str], *, workers: int, most: int
    ) -> None:
        self.handle = handle
        self.batchers = {task: self._batcher(task, workers, most) for task in tasks}

    def _batcher(self, task: str, workers: int, most: int) -> Batcher[Decision]:
        async def call(texts: list[str]) -> Decided[Decision]:
            return await self._asked("decide", task, texts, False)

        return Batcher(call, most=most, workers=workers)

    async def decide(
        self, task: str, texts: Sequence[str], *, background: bool = False
    ) -> Decided[Decision]:
        return await self.batchers[task](texts, background=background)

    async def split(self, name: str, data: bytes) -> Split:
        made = await self._asked("split", name, data)
        if isinstance(made, tuple):
            raise FilingError(*made)
        return made

    async def _asked(self, method: str, *values: Any) -> Any:
        """A replica's answer; a replica that dies meanwhile is replaced by another."""
        wait = 0.1
        for _ in range(_TRIES):
            try:
                return await getattr(self.handle, method).remote(*values)
            except RayTaskError:
                raise  # its own error, not its death
            except (RayError, RayServeException):
                await asyncio.sleep(wait)
                wait *= 3
        raise busy("the replicas do not answer", code="student_unavailable", retry_after_s=5)

    async def close(self) -> None:
        """Nothing to end: Serve owns the replicas."""


class Ingress:
    """The application over HTTP, in a process of its own."""

    def __init__(self, config: Config, student: DeploymentHandle, replicas: int) -> None:
        settings.logging_to_stderr()
        self.student = remote(config, student, replicas)
        self.config = config
        self.service = settings.service(config, self.student, os.environ)

    async def __serve_build_asgi_app__(self) -> FastAPI:
        """The application, once a replica has answered: what is not warm is not ready."""
        for task in self.student.batchers:
            with contextlib.suppress(Problem):
                await self.student.decide(task, ["See Item 7."])
        return settings.application(self.config, self.service, behind_proxy=True)


def replicas(config: Config, plan: Plan) -> serve.Application:
    """The replicas alone, for routes in another process."""
    scaled: dict[str, Any] = (
        {"num_replicas": 1}
        if plan.replicas == 1
        else {
            "num_replicas": None,
            "autoscaling_config": {
                "min_replicas": 1,
                "max_replicas": plan.replicas,
                "target_ongoing_requests": 1,
                "upscale_delay_s": 5,
                "downscale_delay_s": 300,
            },
        }
    )
    deployment: Any = serve.deployment
    made = deployment(Student).options(
        name="Student",
        max_ongoing_requests=AHEAD + 1,  # and a filing's text
        max_queued_requests=AHEAD * plan.replicas + config.limits.waiting,
        graceful_shutdown_timeout_s=config.drain_s,
        graceful_shutdown_wait_loop_s=0.5,
        health_check_period_s=2,
        health_check_timeout_s=20,
        ray_actor_options={"num_cpus": max(_SLIVER, plan.threads - 2 * _SLIVER)},
        logging_config=_QUIET,
        **scaled,
    )
    return made.bind(config, plan.threads)


def deployed(config: Config, cores: int) -> serve.Application:
    """The whole Serve application of a checked config on so many cores."""
    plan = settings.plan(config, cores)
    deployment: Any = serve.deployment
    ingress = deployment(serve.ingress()(Ingress)).options(
        name="Ingress",
        num_replicas=config.ingress,
        max_ongoing_requests=config.limits.waiting
        + 64,  # the routes refuse the rest, with a problem
        max_queued_requests=config.limits.waiting,
        graceful_shutdown_timeout_s=config.drain_s,
        graceful_shutdown_wait_loop_s=0.5,
        ray_actor_options={"num_cpus": _SLIVER},
        logging_config=_QUIET,
    )
    return ingress.bind(config, replicas(config, plan), plan.replicas)


def app(args: dict[str, Any]) -> serve.Application:
    """The application of a Serve config file: `args` are the keys of conf/serve.yaml."""
    config = settings.checked(yaml.plain(Config, args))
    return deployed(config, _cores())


def _cores() -> int:
    return int(ray.cluster_resources().get("CPU", os.cpu_count() or 1))


def begin() -> None:
    """Joins or starts Ray."""
    from raydistill.on_ray import cluster

    cluster.start()
    logging.getLogger("ray.serve").setLevel(logging.ERROR)  # it tells a story at each step


def start(config: Config) -> None:
    """Starts the whole application on Ray Serve; gives control back when it is warm."""
    begin()
    wide = not is_loopback(config.host)
    serve.start(
        proxy_location="EveryNode" if wide else "HeadOnly",
        logging_config=_QUIET,
        http_options={
            "host": config.host,
            "port": config.port,
            "request_timeout_s": config.limits.filing_s + 30,
            "ssl_certfile": config.tls_cert and str(Path(config.tls_cert).absolute()),
            "ssl_keyfile": config.tls_key and str(Path(config.tls_key).absolute()),
        },
    )
    serve.run(deployed(config, _cores()), name=NAME, route_prefix="/")


def start_replicas(config: Config) -> RemoteStudent:
    """Starts the replicas on Ray Serve and gives the way to them when they are warm."""
    begin()
    serve.start(proxy_location="Disabled", logging_config=_QUIET)
    plan = settings.plan(config, _cores())
    handle = serve.run(replicas(config, plan), name=NAME, route_prefix=None)
    return remote(config, handle, plan.replicas)


def remote(config: Config, handle: DeploymentHandle, count: int) -> RemoteStudent:
    """The way to so many replicas."""
    tasks = list(settings.folders(config))
    return RemoteStudent(handle, tasks, workers=AHEAD * count, most=config.batch_tokens)


def start_empty(route: str) -> None:
    """An application that does nothing, beside ours: the floor of what Serve costs."""
    nothing = FastAPI(docs_url=None, redoc_url=None)

    @nothing.post("/")
    async def answer() -> dict[str, str]:  # pyright: ignore[reportUnusedFunction]
        return {"status": "ok"}

    empty: Any = serve.deployment(serve.ingress(nothing)())
    options = {"num_cpus": 0.01}
    bound = empty.options(max_ongoing_requests=256, ray_actor_options=options).bind()
    serve.run(bound, name="empty", route_prefix=route)


def stop() -> None:
    """Drains the application and ends Serve."""
    with contextlib.suppress(RayError, RayServeException):
        serve.shutdown()
    ray.shutdown()
