"""Metrics in Prometheus' words. The one home of prometheus_client."""

from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300)


def _registry() -> CollectorRegistry:
    return CollectorRegistry(auto_describe=True)


@dataclass(slots=True)
class Metrics:
    """What one process has answered. With several processes Prometheus scrapes and sums them."""

    registry: CollectorRegistry = field(default_factory=_registry)
    requests: Counter = field(init=False)
    seconds: Histogram = field(init=False)
    decisions: Counter = field(init=False)
    problems: Counter = field(init=False)
    dropped: Counter = field(init=False)
    compared: Counter = field(init=False)
    fallbacks: Counter = field(init=False)
    waiting: Gauge = field(init=False)
    mode: Gauge = field(init=False)
    agreement: Gauge = field(init=False)

    def __post_init__(self) -> None:
        r, p = self.registry, "raydistill"
        self.requests = Counter(
            f"{p}_requests", "Requests by route and status", ["route", "status"], registry=r
        )
        self.seconds = Histogram(
            f"{p}_request_seconds", "Until the last byte", ["route"], registry=r, buckets=_SECONDS
        )
        self.decisions = Counter(
            f"{p}_sentences", "Sentences by decision", ["task", "decision"], registry=r
        )
        self.problems = Counter(f"{p}_problems", "Problems by code", ["code"], registry=r)
        self.dropped = Counter(f"{p}_mirror_dropped", "Rows not written", ["reason"], registry=r)
        self.compared = Counter(f"{p}_compared", "Comparisons", ["agree"], registry=r)
        self.fallbacks = Counter(f"{p}_fallbacks", "Fall-backs of the rollout", registry=r)
        self.waiting = Gauge(f"{p}_under_way", "Requests under way", registry=r)
        self.mode = Gauge(f"{p}_mode", "1 for the mode in use", ["mode"], registry=r)
        self.agreement = Gauge(f"{p}_agreement", "Agreement over the window", ["bound"], registry=r)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
