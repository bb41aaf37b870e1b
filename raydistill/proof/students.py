"""Students: what a release's last stage is made of, one extractor or several specialists."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raydistill import dataset, engine
from raydistill.answer import Answer
from raydistill.dataset import Dataset
from raydistill.digest import sha256
from raydistill.errors import AnswerError, SetupError
from raydistill.specialists import Specialists
from raydistill.stages.extract import Extract
from raydistill.stages.routed import ROUTE, Routed, place
from raydistill.student.folder import Card, card
from raydistill.student.masters import Extractor

Answers = list[Answer | AnswerError]


@dataclass(frozen=True, slots=True)
class Students:
    """Student folders and their cards by their places in a release; `values` of specialists."""

    folders: dict[str, Path]
    cards: dict[str, Card]
    values: dict[str, list[str]]

    @classmethod
    def of(
        cls, data: Dataset, extractor: str, extractors: Mapping[str, str], skip: Card
    ) -> "Students":
        """The one student, or the specialists that `skip` tells apart.

        Raises SetupError where `extractors` are not these, or one learned another part of `data`.
        """
        values: dict[str, list[str]] = skip.training.get("specialists") or {}
        if set(values) != set(extractors):
            raise SetupError(
                f"extractors of {', '.join(extractors) or 'none'}",
                expected=f"those of the skip classifier: {', '.join(values) or 'none'}",
                todo="name them in extractors={NAME: FOLDER}, or train student=skip_s again",
            )
        named = {place(name): Path(extractors[name]) for name in values}
        folders = named or {"extractor": Path(extractor)}
        made = cls(folders, {name: card(one) for name, one in folders.items()}, values)
        for name, some in values.items():
            made._refuse_other(place(name), some, data)
        return made

    def _refuse_other(self, name: str, values: Sequence[str], data: Dataset) -> None:
        part = dataset.open_(data.folder, only=values)
        found = self.cards[name]
        if found.dataset != part.fingerprint:
            taught = ", ".join(found.training.get("only") or ()) or "all types"
            raise SetupError(
                f"{self.folders[name]} was trained on dataset {found.dataset}, only={taught}",
                expected=f"{part.fingerprint}, only={', '.join(values) or '[] (it has the rest)'}",
                todo="train it on this dataset with this only=",
            )

    def convert(self, folder: Path, quantisation: str) -> None:
        """Writes the quantised students to their places in a release's folder."""
        for name, student in self.folders.items():
            engine.convert(student, folder / name, quantisation=quantisation)

    @property
    def shapes(self) -> dict[str, dict[str, Any]]:
        """What a manifest says of each: its shape and target."""
        return {name: {**one.shape, "target": one.target} for name, one in self.cards.items()}

    @property
    def base(self) -> str | None:
        """The base models they were trained from, or None."""
        bases = [one.shape.get("base") for one in self.cards.values()]
        return ", ".join(sorted({one for one in bases if one})) or None

    @property
    def adapter(self) -> str | None:
        """The digests of the adapters that were merged into their bases, or None."""
        files = [one / "adapter" / "adapter_model.safetensors" for one in self.folders.values()]
        return ", ".join(sha256(file)[:16] for file in files if file.is_file()) or None

    @property
    def thresholds(self) -> list[str]:
        """The names of the thresholds that the skip classifier must have brought."""
        return ["threshold", ROUTE] if self.values else ["threshold"]


def masters(
    folders: Mapping[str, Path], stage: Extract | Routed, texts: list[str], *, threads: int
) -> Answers:
    """What the masters in these folders, by place, say of sentences; asked as `stage` asks."""
    if isinstance(stage, Extract):
        return Extractor(folders["extractor"], threads=threads).answers(texts)
    parts: Specialists = stage.specialists

    def asked(name: str, some: list[str]) -> Answers:
        return Extractor(folders[place(name)], threads=threads).answers(some)

    ask = {name: lambda some, name=name: asked(name, some) for name in parts.names}
    return [parts.joined(said) for said in parts.said(texts, stage.routes(texts), ask)]
