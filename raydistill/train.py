"""train: a dataset becomes a student. Ray Train runs the loop of `student.fit` on every worker.

One process or many, CPU (gloo) or GPU (nccl): the same loop, the same batches. `workers=0` runs it
in this process without Ray. A run that was stopped goes on from its last checkpoint by the same
command.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from raydistill import dataset, progress
from raydistill.dataset import Dataset
from raydistill.errors import SetupError
from raydistill.lessons.taught import taught
from raydistill.on_ray import trainer
from raydistill.questions import mixture
from raydistill.specialists import Specialists
from raydistill.student.examples import Examples, classification, extraction
from raydistill.student.fit import FitConfig, Report, Workers, fit
from raydistill.student.folder import STUDENT, Card, card, save
from raydistill.student.lora import LoraConfig
from raydistill.student.masters import Scorer, writer
from raydistill.student.pointer import pointing
from raydistill.student.shape import Kind, Shape
from raydistill.student.start import Start, learner, refuse_unfaithful, start
from raydistill.student.thresholds import thresholds
from raydistill.student.watch import Watch
from raydistill.target import decoded


@dataclass(kw_only=True, slots=True)
class Config:
    """What train reads and writes, and on how many workers it runs.

    `negatives` is sentences without an event for each with one in an extractor's lessons (a skip
    classifier learns from all of them), `invented` the copies of each of those with an event under
    names made up (see invented.py). `weights` says how often an epoch holds the rows of a mixture's
    task (once, where it does not). `only` names the event types of a specialist; all others are
    nothing to it. `specialists` are the event types of each, by name, that a skip classifier is to
    tell apart. `recall` is what the skip threshold is chosen for, and the route's. More than
    `max_dropped` of the rows too long for an extractor, or `max_cut` of them cut for a classifier,
    are refused.
    """

    root: str = "runs"
    dataset: str
    out: str
    student: Shape
    fit: FitConfig = field(default_factory=FitConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    target: str = "compact"
    negatives: float = 0.5
    invented: int = 0
    joined: float = 0.0
    weights: dict[str, float] = field(default_factory=dict)
    only: list[str] = field(default_factory=list)
    specialists: dict[str, list[str]] = field(default_factory=dict)
    recall: float = 0.99
    max_dropped: float = 0.02
    max_cut: float = 0.1
    workers: int = 1
    threads: int = 2
    gpu: bool = False
    max_failures: int = 2


def run(config: Config) -> Path:
    """Trains the student of `config`; gives its folder."""
    data = dataset.open_(Path(config.dataset).absolute(), only=config.only)
    _specialists(config, data)
    config.dataset, config.out = str(data.folder), str(Path(config.out).absolute())
    digest = _digest(config, data)
    out = Path(config.out)
    if (out / STUDENT).is_file() and card(out).training.get("digest") == digest:
        print(f"train: {out} is already this student, nothing to do")
        return out
    with Watch(_beside(out, "watch")) as watch:
        if config.workers == 0:
            _teach(config, _alone(config), lambda line, _: watch(line), None)
        else:
            trainer.train(partial(_teach, config), _crew(config, digest, out), watch)
        _finish(config, digest, data)
        watch.finish(out)
    return out


def _crew(config: Config, digest: str, out: Path) -> trainer.Crew:
    return trainer.Crew(
        name=digest,
        workers=config.workers,
        threads=config.threads,
        gpu=config.gpu,
        max_failures=config.max_failures,
        storage=_beside(out, "checkpoints"),
        log=_beside(out, "log.jsonl"),
    )


def _beside(out: Path, suffix: str) -> Path:
    return out.with_name(f"{out.name}.{suffix}")


def _digest(config: Config, data: Dataset) -> str:
    stable = asdict(config) | {"dataset": data.fingerprint, "out": "", "threads": 0, "workers": 0}
    return hashlib.sha256(json.dumps(stable, sort_keys=True, default=str).encode()).hexdigest()[:12]


def _alone(config: Config) -> Workers:
    """This process as the only worker."""
    import torch

    if config.gpu and not torch.cuda.is_available():
        raise SetupError(
            "gpu=true, and torch sees no GPU here",
            expected="a CUDA GPU and a torch built for it",
            todo="set gpu=false",
        )
    return Workers(device=torch.device("cuda" if config.gpu else "cpu"))


def _teach(config: Config, workers: Workers, report: Report, resume: Path | None) -> None:
    """Trains on this worker; the first worker writes the student folder."""
    import torch

    torch.set_num_threads(config.threads)
    data = dataset.open_(Path(config.dataset), only=config.only)
    begun = _begun(config, data)
    examples = _examples(config, data, begun, tell=workers.rank == 0)
    if workers.rank == 0:
        _announce(begun, examples)
    teaches = learner(begun, examples, pack=config.fit.pack, shift=config.fit.shift)
    check = partial(_agreement, config, data, begun) if config.fit.validate_every else None
    fit(teaches, config.fit, workers=workers, report=report, resume=resume, validate=check)
    if workers.rank == 0:
        _save(config, data, begun, examples)


def _begun(config: Config, data: Dataset) -> Start:
    return start(
        config.student,
        data.tasks,
        data.tokenizer(),
        target=config.target,
        positions=int(data.manifest.get("positions", config.student.max_input)),
        seed=config.fit.seed,
        lora=config.lora,
        classes=1 + max(1, len(config.specialists)),
    )


def _specialists(config: Config, data: Dataset) -> Specialists | None:
    """Whom the classifier is to tell apart. Raises SetupError on what cannot be."""
    if not config.specialists:
        return None
    if config.student.kind is not Kind.encoder or config.only or data.others:
        what = "several tasks" if data.others else "only=" if config.only else "an extractor"
        raise SetupError(
            f"specialists= with {what}",
            expected="a skip classifier of one task's whole dataset: student=skip_s or another",
            todo="set specialists= for the classifier, only= for each of its extractors",
        )
    return Specialists.of(data.task, config.specialists)


def _classes(config: Config, data: Dataset, rows: pa.Table) -> list[list[int]] | None:
    """The classes of these rows, None where there are but two: nothing and something."""
    parts = _specialists(config, data)
    if parts is None:
        return None
    return [parts.classes(data.task.parse(one)) for one in rows["answer"].to_pylist()]


def step_seconds(config: Config) -> float:
    """Seconds of one step of this student on this machine; nothing is written."""
    marks: list[float] = []
    data = dataset.open_(Path(config.dataset), only=config.only)
    begun = _begun(config, data)
    examples = _examples(config, data, begun, tell=False)
    teaches = learner(begun, examples, pack=config.fit.pack, shift=config.fit.shift)
    fit(teaches, config.fit, report=lambda line, _: marks.append(line.seconds))
    return (marks[-1] - marks[0]) / (len(marks) - 1)


def _announce(begun: Start, examples: Examples) -> None:
    parameters = list(begun.model.parameters())
    size = sum(one.numel() for one in parameters)
    trained = sum(one.numel() for one in parameters if one.requires_grad)
    part = "" if trained == size else f", {trained / 1e6:.1f} M of them trained"
    print(f"train: {size / 1e6:.1f} M parameters{part}, {len(examples):,} examples", flush=True)
    if begun.target is not None and begun.places is None:
        print(f"train: loss on answers; {examples.masked:.0%} of tokens are masked", flush=True)


def _save(config: Config, data: Dataset, begun: Start, examples: Examples) -> None:
    shape = config.student
    training = {
        "fit": asdict(config.fit) | {"optimiser": config.fit.optimiser.value},
        "lora": asdict(config.lora) if config.lora.rank else None,
        "examples": len(examples),
        "dropped": examples.dropped,
        "cut": examples.cut,
        "only": config.only,
        "specialists": config.specialists,
    }
    size = {**asdict(shape), "kind": shape.kind.value, "frame": begun.frame.spec()}
    size["places"] = {name: asdict(one.begin) for name, one in (begun.places or {}).items()}
    spec = data.task.spec()
    one = Card(shape.kind.value, config.target, spec, size, training, data.fingerprint)
    save(Path(config.out), begun.model, begun.tokenizer, one)


def _agreement(config: Config, data: Dataset, begun: Start) -> float:
    """How far the student as it stands agrees with the teacher on a sample of validation, 0..1.

    For an extractor the share of sentences, as many with an event as without, whose whole answer is
    the teacher's; for a classifier the mean of its accuracy on either.
    """
    if data.others:
        return mixture.agreement(
            data,
            begun.model,
            begun.tokenizer,
            begun.frame,
            kind=config.target,
            size=config.student,
            rows=config.fit.validate_rows,
            places=begun.places,
        )
    rows = data.table("val")
    keep = np.asarray(rows["keep"])
    half = max(1, config.fit.validate_rows // 2)
    some = np.sort(np.concatenate([np.flatnonzero(keep)[:half], np.flatnonzero(~keep)[:half]]))
    rows, keep = rows.take(pa.array(some)), keep[some]
    texts = rows["text"].to_pylist()
    if begun.target is None:
        scorer = Scorer(begun.model, begun.tokenizer, begun.frame, config.student)
        right = (np.array(scorer.scores(texts)) >= 0.5) == keep
        return float(np.mean([right[keep == one].mean() for one in np.unique(keep)]))
    # A validation costs what it may: answers longer than a few events are wrong here anyway.
    size = replace(config.student, max_output=min(config.student.max_output, 160))
    encoded = begun.tokenizer.encode(texts)
    slots = begun.places[data.task.name] if begun.places else None
    asked = writer(begun.model, begun.tokenizer, begun.frame, size, slots)
    written = asked.tokens(encoded)
    hits = [
        decoded(begun.target, tokens, one.source) == data.task.parse(answer, text)
        for tokens, one, answer, text in zip(
            written, encoded, rows["answer"].to_pylist(), texts, strict=True
        )
    ]
    return float(np.mean(hits))


def _examples(config: Config, data: Dataset, begun: Start, *, tell: bool) -> Examples:
    shape = config.student
    if data.others:
        return _mixture(config, data, begun)
    if begun.target is None:
        rows = data.table("train")
        _classes(config, data, data.table("val"))  # whose types want an owner, too
        examples = classification(
            rows,
            begun.tokenizer,
            max_input=shape.max_input,
            frame=begun.frame,
            classes=_classes(config, data, rows),
        )
        _refuse(examples.cut, len(rows), config.max_cut, "cut", "student.max_input, or max_cut")
        return examples
    lessons = taught(
        data,
        negatives=config.negatives,
        copies=config.invented,
        joined=config.joined,
        seed=config.fit.seed,
    )
    if tell:
        print(f"train: {lessons.told()}", flush=True)
    first = lessons.rows.slice(0, 200)
    pairs = zip(first["text"].to_pylist(), first["answer"].to_pylist(), strict=True)
    refuse_unfaithful(begun, data.task, list(pairs), config.target)
    made: dict[str, Any] = {"max_input": shape.max_input, "frame": begun.frame}
    what = (lessons.rows, data.task, begun.target)
    if begun.places is not None:
        examples = pointing(*what, begun.tokenizer, places=begun.places, **made)
    else:
        examples = extraction(*what, begun.tokenizer, max_output=shape.max_output, **made)
    todo = "student.max_input or student.max_output, or max_dropped"
    _refuse(examples.dropped, len(lessons.rows), config.max_dropped, "dropped", todo)
    return examples


def _mixture(config: Config, data: Dataset, begun: Start) -> Examples:
    """The examples of several tasks, each as often as `weights` says."""
    if begun.target is None:
        raise SetupError(
            "a classifier of a dataset with several tasks",
            expected="student=seq2seq_s or another that writes answers",
            todo="set student=",
        )
    examples = mixture.examples(
        data,
        begun.tokenizer,
        begun.frame,
        kind=config.target,
        weights=config.weights,
        size=config.student,
        places=begun.places,
        seed=config.fit.seed,
    )
    todo = "student.max_input or student.max_output, or max_dropped"
    rows = len(examples) + examples.dropped
    _refuse(examples.dropped, rows, config.max_dropped, "dropped", todo)
    return examples


def _refuse(count: int, rows: int, most: float, what: str, todo: str) -> None:
    if count > most * rows:
        raise SetupError(
            f"{count} of {rows} rows are longer than the student takes, and are {what}",
            expected=f"at most {most:.0%}",
            todo=f"raise {todo}",
        )


def _finish(config: Config, digest: str, data: Dataset) -> None:
    """Adds what is known only after training: the skip threshold, and the digest as the end."""
    file = Path(config.out) / STUDENT
    facts = json.loads(file.read_text())
    if config.student.kind is Kind.encoder:
        rows = data.table("val")
        found = thresholds(
            Path(config.out),
            rows,
            recall=config.recall,
            threads=config.threads,
            classes=_classes(config, data, rows) or [],
        )
        facts["training"] |= found
        progress.tell("threshold", 1, 1, **found)
        print(
            f"skip threshold {found['threshold']:.4f}: keeps {found['kept']:.1%} of validation"
            f" sentences, recall {found['recall']:.2%} (at least {found['recall_low']:.2%})"
        )
        if "route" in found:
            print(
                f"route threshold {found['route']:.4f}: asks {found['asked']:.2f} specialists a"
                f" sentence that is kept, {found['route_recall']:.2%} of those that it should"
            )
    facts["training"]["digest"] = digest
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(facts, indent=2, ensure_ascii=False))
    temporary.rename(file)
    print(f"student: {config.out}")
