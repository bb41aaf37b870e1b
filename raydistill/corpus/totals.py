"""Totals: what the lines of committed chunks add up to, and how much memory the actors held."""

from dataclasses import dataclass, field
from typing import Any

from raydistill.chunk import TOLD
from raydistill.corpus.stages import ALL_SECONDS

_SUMS = ("filings", "new", *TOLD, "events", "dead_letters", "answers", "abstained")


@dataclass(slots=True)
class Totals:
    """Sums over the committed chunks of this driver, of `total` filings to do."""

    total: int
    chunks: int = 0
    sums: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_SUMS, 0))
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(ALL_SECONDS, 0.0))
    codes: dict[str, int] = field(default_factory=dict)
    rss: dict[int, float] = field(default_factory=dict)
    rss_first_tenth: float | None = None
    peak_mib: float = 0.0

    def add(self, line: dict[str, Any]) -> None:
        """Adds a committed chunk."""
        self.chunks += 1
        for name in self.sums:
            self.sums[name] += line.get(name, 0)
        for name in self.seconds:
            self.seconds[name] += line.get(name, 0.0)
        for code, count in line.get("codes", {}).items():
            self.codes[code] = self.codes.get(code, 0) + count
        if "actor" in line:
            self.rss[line["actor"]] = line["rss_mib"]
            self.peak_mib = max(self.peak_mib, line["peak_mib"])
        if self.rss_first_tenth is None and 10 * self.sums["filings"] >= self.total:
            self.rss_first_tenth = self.rss_mib

    @property
    def rss_mib(self) -> float:
        """What the largest actor held after its last chunk, MiB."""
        return max(self.rss.values(), default=0.0)

    @property
    def shares(self) -> str:
        """The stages' shares of their seconds, for a line of progress."""
        total = sum(self.seconds.values()) or 1.0
        parts = [(name.removesuffix("_s"), s / total) for name, s in self.seconds.items()]
        return " ".join(f"{name} {share:.0%}" for name, share in parts)
