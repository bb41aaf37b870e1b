"""What was said of recent sentences: filings repeat themselves, and the same text gets its answer.

Bounded, and cheap to bound: two generations, of which the older is dropped whole when the younger
is full. What is asked for again moves to the younger.
"""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Value = TypeVar("Value")

MOST = 100_000  # sentences of both generations: some 30 MB


class Recent(Generic[Value]):
    """Values by text, of the last `most` different texts or a bit fewer. One thread at a time."""

    def __init__(self, most: int = MOST) -> None:
        self.half = max(1, most // 2)
        self.young: dict[str, Value] = {}
        self.old: dict[str, Value] = {}
        self.asked = self.known = 0

    @property
    def hit_rate(self) -> float:
        """The share of texts that were known, or stood twice in one call."""
        return self.known / max(1, self.asked)

    def __call__(
        self, texts: Sequence[str], make: Callable[[list[str]], Sequence[Value]]
    ) -> list[Value]:
        """The value of each text; `make` is called once, with the unknown texts, each once."""
        found: dict[str, Value] = {}
        unknown: dict[str, None] = {}
        for text in texts:
            if text in self.young:
                found[text] = self.young[text]
            elif text in self.old:
                found[text] = self.old[text]
            else:
                unknown[text] = None
        if unknown:
            found.update(zip(unknown, make(list(unknown)), strict=True))
        self.asked += len(texts)
        self.known += len(texts) - len(unknown)
        for text, value in found.items():
            self.young[text] = value
            if len(self.young) >= self.half:
                self.old, self.young = self.young, {}
        return [found[text] for text in texts]
