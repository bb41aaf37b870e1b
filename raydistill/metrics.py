"""Metrics: Prometheus counters of a long job, as a text file and, when asked, over HTTP.

The home of prometheus_client. The port answers on this machine only.
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from raydistill.errors import SetupError


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

    def count(self, name: str, by: float = 1.0, **labels: str) -> None:
        """Adds to a counter; its labels' names are those of its first use."""
        from prometheus_client import Counter

        if name not in self.counters:
            self.counters[name] = Counter(
                self.prefix + name, name.replace("_", " "), list(labels), registry=self.registry
            )
        counter = self.counters[name]
        (counter.labels(**labels) if labels else counter).inc(by)

    def set(self, name: str, value: float) -> None:
        """Sets a gauge."""
        from prometheus_client import Gauge

        if name not in self.gauges:
            self.gauges[name] = Gauge(
                self.prefix + name, name.replace("_", " "), registry=self.registry
            )
        self.gauges[name].set(value)

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
