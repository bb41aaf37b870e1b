"""train: a dataset becomes a student. Ray Train runs the loop of `student.fit` on every worker.

One process or many, CPU (gloo) or GPU (nccl): the same loop, the same batches. `workers=0` runs it
in this process without Ray. A run that was stopped goes on from its last checkpoint by the same
command.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from raydistill import dataset, progress
from raydistill.dataset import Dataset
from raydistill.errors import SetupError
from raydistill.on_ray import trainer
from raydistill.student.examples import Examples
from raydistill.student.fit import FitConfig, Report, Workers, fit
from raydistill.student.folder import STUDENT, Card, card, save
from raydistill.student.lora import LoraConfig
from raydistill.student.shape import Kind, Shape
from raydistill.student.start import Start, learner, start
from raydistill.student.thresholds import thresholds
from raydistill.student.watch import Watch
from raydistill.teaching import agreement, classes_of, examples_of, specialists


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
    specialists(config, data)
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
    examples = examples_of(config, data, begun, tell=workers.rank == 0)
    if workers.rank == 0:
        _announce(begun, examples)
    teaches = learner(begun, examples, pack=config.fit.pack, shift=config.fit.shift)
    check = partial(agreement, config, data, begun) if config.fit.validate_every else None
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


def step_seconds(config: Config) -> float:
    """Seconds of one step of this student on this machine; nothing is written."""
    marks: list[float] = []
    data = dataset.open_(Path(config.dataset), only=config.only)
    begun = _begun(config, data)
    examples = examples_of(config, data, begun, tell=False)
    teaches = learner(begun, examples, pack=config.fit.pack, shift=config.fit.shift)
    fit(teaches, config.fit, report=lambda line, _: marks.append(line.seconds))
    return (marks[-1] - marks[0]) / (len(marks) - 1)


def _announce(begun: Start, examples: Examples) -> None:
    parameters = list(begun.model.parameters())
    size = sum(one.numel() for one in parameters)
    trained = sum(one.numel() for one in parameters if one.requires_grad)
    part = "" if trained == size else f", {trained / 1e6:.1f} M of them trained"
    print(f"train: {size / 1e6:.1f} M parameters{part}, {len(examples):,} examples", flush=True)
    if begun.places is not None:
        share = f"{examples.untaught:.1%}"
        print(f"train: {share} of values can only be spelled and are not taught", flush=True)
    elif begun.target is not None:
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
            classes=classes_of(config, data, rows) or [],
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
