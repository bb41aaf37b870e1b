"""Metrics: Prometheus counters of a long job, as a text file and, when asked, over HTTP.

With RAYDISTILL_METRICS=FOLDER (of a textfile collector) or =PORT every verb says how far it is, and
at its end what came of it: `raydistill_job_*` with the verb as a label. The home of
prometheus_client. A port answers on this machine only.
"""

import math
import os
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raydistill import progress
from raydistill.errors import RaydistillError, SetupError

ASKED = "RAYDISTILL_METRICS"  # not in conf: it holds for every verb
# Of a verb, by step: done of total. `figure` by name is what it tells meanwhile and at its end.
OF_JOBS = (
    "running", "seconds", "exit_code", "written_timestamp_seconds", "done", "total", "figure",
)  # fmt: skip
_EVERY_S, _MOST = 5.0, 300


@dataclass(kw_only=True, slots=True)
class MetricsConfig:
    """`port` serves the counters on 127.0.0.1; null serves none."""

    port: int | None = None


class Metrics:
    """Counters and gauges named `raydistill_VERB_NAME`, made when they are first used."""

    def __init__(self, verb: str, *, port: int | None = None, file: Path | None = None) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

        self.prefix, self.file = f"raydistill_{verb}_", file
        self.registry = CollectorRegistry()
        self.counters: dict[str, Counter] = {}
        self.gauges: dict[str, Gauge] = {}
        self.server = None
        if port is not None:
            try:
                self.server, _ = start_http_server(port, addr="127.0.0.1", registry=self.registry)
            except OSError as problem:
                raise SetupError(
                    f"metrics.port={port} cannot be opened: {problem}",
                    todo="choose another port, or metrics.port=null",
                ) from None

    def count(self, name: str, by: float = 1.0, /, **labels: str) -> None:
        """Adds to a counter; its labels' names are those of its first use."""
        from prometheus_client import Counter

        if name not in self.counters:
            self.counters[name] = Counter(
                self.prefix + name, name.replace("_", " "), list(labels), registry=self.registry
            )
        counter = self.counters[name]
        (counter.labels(**labels) if labels else counter).inc(by)

    def set(self, name: str, value: float, /, **labels: str) -> None:
        """Sets a gauge; its labels' names are those of its first use."""
        from prometheus_client import Gauge

        if name not in self.gauges:
            self.gauges[name] = Gauge(
                self.prefix + name, name.replace("_", " "), list(labels), registry=self.registry
            )
        gauge = self.gauges[name]
        (gauge.labels(**labels) if labels else gauge).set(value)

    def write(self) -> None:
        """Writes the file for a textfile collector; a full disk is no error."""
        from prometheus_client import write_to_textfile

        if self.file is not None:
            with suppress(OSError):
                write_to_textfile(str(self.file), self.registry)

    def close(self) -> None:
        """Writes the file a last time and gives the port back."""
        self.write()
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()


class Job:
    """A running verb's metrics, or nothing where nobody asked for them."""

    def __init__(self, verb: str, metrics: Metrics | None) -> None:
        self.verb, self.metrics = verb, metrics
        self.began = time.monotonic()
        self.written = 0.0

    def heard(self, step: str, done: int, total: int, figures: Mapping[str, float]) -> None:
        """How far a step is, and what it tells on its way."""
        if self.metrics is None:
            return
        self.metrics.set("done", done, verb=self.verb, step=step)
        self.metrics.set("total", total, verb=self.verb, step=step)
        self.told(figures)
        if time.monotonic() - self.written > _EVERY_S:
            self.write(running=1)

    def told(self, made: object) -> None:
        """The numbers in what the verb made: a mapping, or a thing with `figures`."""
        if self.metrics is not None:
            for name, value in flat(getattr(made, "figures", made)).items():
                self.metrics.set("figure", value, verb=self.verb, name=name)

    def write(self, *, running: int) -> None:
        """Brings the file up to date."""
        if self.metrics is None:
            return
        self.written = time.monotonic()
        self.metrics.set("running", running, verb=self.verb)
        self.metrics.set("seconds", self.written - self.began, verb=self.verb)
        self.metrics.set("written_timestamp_seconds", time.time(), verb=self.verb)
        self.metrics.write()


@contextmanager
def job(verb: str) -> Generator[Job]:
    """The metrics of a verb while it runs, where RAYDISTILL_METRICS says; none where it does not.

    In a folder the file is `raydistill_VERB.prom`.
    """
    where = os.environ.get(ASKED, "")
    if not where:
        yield Job(verb, None)
        return
    if not where.isdigit() and not Path(where).is_dir():
        raise SetupError(
            f"{ASKED}={where} is no folder",
            expected="the folder of a textfile collector, or a port",
            todo=f"make it, or unset {ASKED}",
        )
    file = None if where.isdigit() else Path(where) / f"raydistill_{verb}.prom"
    metrics = Metrics("job", port=int(where) if where.isdigit() else None, file=file)
    one = Job(verb, metrics)
    one.write(running=1)
    code = 1
    try:
        with progress.heard(one.heard):
            yield one
        code = 0
    except BaseException as problem:
        code = _exit_code(problem)
        raise
    finally:
        metrics.set("exit_code", code, verb=verb)
        one.write(running=0)
        metrics.close()


def _exit_code(problem: BaseException) -> int:
    if isinstance(problem, SystemExit):
        return problem.code if isinstance(problem.code, int) else int(problem.code is not None)
    if isinstance(problem, KeyboardInterrupt):
        return 130
    return 2 if isinstance(problem, RaydistillError) else 1


def flat(made: object, prefix: str = "") -> dict[str, float]:
    """The finite numbers in nested mappings by dotted name, the first 300; lists are left out."""
    out: dict[str, float] = {}
    if not isinstance(made, Mapping):
        return out
    pairs: list[tuple[object, Any]] = list(made.items())
    for name, value in pairs:
        if isinstance(value, Mapping):
            out |= flat(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and math.isfinite(value):
            out[f"{prefix}{name}"] = float(value)
    return dict(list(out.items())[:_MOST])
