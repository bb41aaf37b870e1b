"""Runs one benchmark by name and prints its figures as the last line, one JSON object."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raydistill.errors import SetupError


@dataclass(kw_only=True, slots=True)
class Config:
    """Which benchmark, and its sizes: `rows` counts rows; without any, the bench's own."""

    bench: str = "way"
    root: str = "runs/bench"
    rows: list[int] = field(default_factory=list)
    verbs: list[str] = field(default_factory=list)
    corpus: str | None = None
    threads: int = 2
    kills: int = 50
    release: str | None = None
    students: str | None = None


def _way(config: Config) -> dict[str, Any]:
    from raydistill.config import compose
    from raydistill.demo import way as demo_way

    return demo_way.run(compose("demo", demo_way.Config, [f"root={config.root}"]))


def _prefilter(config: Config) -> dict[str, Any]:
    from raydistill.bench import prefilter

    return prefilter.run(
        config.rows[0] if config.rows else None, Path(config.corpus) if config.corpus else None
    )


def _postgres_read(config: Config) -> dict[str, Any]:
    from raydistill.bench import postgres_read

    figures: dict[str, Any] = {}
    for size in config.rows or [3_000_000]:  # of several sizes the last one's figures
        figures = postgres_read.run(size)
    return figures


def _build(config: Config) -> dict[str, Any]:
    from raydistill.bench import build

    sizes = sorted(set(config.rows or [3_000_000]))
    if len(sizes) > 2 or sizes[0] < 10:
        raise SetupError(
            f"bench=build rows={config.rows}",
            expected="two sizes, or the large one alone: the small one is then a tenth",
            todo="set rows=300000,3000000",
        )
    return build.run((sizes[0] // (1 if len(sizes) == 2 else 10), sizes[-1]))


def _evaluate(config: Config) -> dict[str, Any]:
    from raydistill.bench import evaluate

    return evaluate.run()


def _edgar(config: Config) -> dict[str, Any]:
    from raydistill.bench import edgar

    return edgar.run(Path(config.corpus) if config.corpus else None)


def _cluster(config: Config) -> dict[str, Any]:
    from raydistill.bench import cluster

    return cluster.run(
        Path(config.root) / "cluster", filings=(config.rows or [240])[0], verbs=config.verbs
    )


def _serve(config: Config) -> dict[str, Any]:
    from raydistill.bench import serve

    return serve.run(_release(config), Path(config.root) / "serve")


def _serve_whole(config: Config) -> dict[str, Any]:
    from raydistill.bench import serve_whole

    corpus = Path(config.corpus) if config.corpus else None
    return serve_whole.run(_release(config), Path(config.root) / "serve", corpus=corpus)


def _backfill(config: Config) -> dict[str, Any]:
    from raydistill.bench import backfill

    students = Path(config.students) if config.students else None
    return backfill.run(
        Path(config.root) / "backfill", _release(config), students,
        Path(config.corpus) if config.corpus else None,
        filings=(config.rows or [160])[0], threads=config.threads,
    )  # fmt: skip


def _scale(config: Config) -> dict[str, Any]:
    from raydistill.bench import scale

    return scale.run(Path(config.root) / "scale", _release(config), threads=config.threads)


def _chaos(config: Config) -> dict[str, Any]:
    from raydistill.bench import chaos

    size = config.rows[0] if config.rows else 150
    return chaos.run(
        Path(config.root) / "chaos", _release(config), kills=config.kills, filings=size
    )


def _release(config: Config) -> Path:
    if config.release is None:
        raise SetupError(f"bench={config.bench} without a release", todo="set release=FOLDER")
    return Path(config.release)


def _students(config: Config) -> dict[str, Any]:
    from raydistill.bench import students

    seconds = config.rows[0] if config.rows else 40  # of training, a student
    return students.run(Path(config.root) / "students", seconds=seconds, threads=config.threads)


def _train(config: Config) -> dict[str, Any]:
    from raydistill.bench import train

    steps = config.rows[0] if config.rows else 6
    return train.run(Path(config.root) / "train", steps=steps, threads=config.threads)


def _questions(config: Config) -> dict[str, Any]:
    from raydistill.bench import questions

    cases = Path(config.corpus) if config.corpus else None
    return questions.run(Path(config.root) / "questions", cases, config.rows, config.threads)


BENCHES: dict[str, Callable[[Config], dict[str, Any]]] = {
    "way": _way,
    "prefilter": _prefilter,
    "postgres_read": _postgres_read,
    "build": _build,
    "evaluate": _evaluate,
    "edgar": _edgar,
    "cluster": _cluster,
    "students": _students,
    "train": _train,
    "questions": _questions,
    "serve": _serve,
    "backfill": _backfill,
    "scale": _scale,
    "chaos": _chaos,
    "serve_whole": _serve_whole,
}


def run(config: Config) -> dict[str, Any]:
    """Runs the benchmark of `config`; the last line printed is its figures as JSON."""
    if config.bench not in BENCHES:
        raise SetupError(
            f"bench={config.bench}", expected=" | ".join(BENCHES), todo="set bench=NAME"
        )
    figures = BENCHES[config.bench](config)
    print(json.dumps(figures))
    return figures
