"""train: a dataset becomes a student. Ray Train runs the loop of `student.fit` on every worker.

One process or many, CPU (gloo) or GPU (nccl): the same loop, the same batches. `workers=0` runs it
in this process without Ray. A run that was stopped goes on from its last checkpoint by the same
command.
"""

import hashlib
import json
import shutil
import tempfile
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute

from raydistill import dataset
from raydistill.dataset import Dataset
from raydistill.errors import SetupError
from raydistill.intervals import clopper_pearson
from raydistill.lessons import invented, variations
from raydistill.on_ray import cluster
from raydistill.progress import duration
from raydistill.student.examples import Examples, classification, extraction
from raydistill.student.fit import FitConfig, Progress, Workers, fit
from raydistill.student.folder import (
    STUDENT,
    Card,
    ClassificationLearner,
    ExtractionLearner,
    Skip,
    card,
    save,
)
from raydistill.student.shape import Kind, Shape, model

pc: Any = compute  # its functions are made at run time: no type checker sees them


@dataclass(kw_only=True, slots=True)
class Config:
    """What train reads and writes, and on how many workers it runs.

    `negatives` is sentences without an event for each with one in an extractor's lessons (a skip
    classifier learns from all of them), `invented` the copies of each of those with an event under
    names made up (see invented.py). `recall` is what the skip threshold is chosen for.
    """

    root: str = "runs"
    dataset: str
    out: str
    student: Shape
    fit: FitConfig = field(default_factory=FitConfig)
    target: str = "compact"
    negatives: float = 0.5
    invented: int = 0
    recall: float = 0.99
    max_dropped: float = 0.02
    workers: int = 1
    threads: int = 2
    gpu: bool = False
    max_failures: int = 2


def run(config: Config) -> Path:
    """Trains the student of `config`; gives its folder."""
    data = dataset.open_(Path(config.dataset).absolute())
    config.dataset, config.out = str(data.folder), str(Path(config.out).absolute())
    digest = _digest(config, data)
    out = Path(config.out)
    if (out / STUDENT).is_file() and card(out).training.get("digest") == digest:
        print(f"train: {out} is already this student, nothing to do")
        return out
    if config.workers == 0:
        _teach(config, Workers(), _printed, None)
    else:
        _ray_train(config, digest)
    _finish(config, digest, data)
    return out


def _digest(config: Config, data: Dataset) -> str:
    stable = asdict(config) | {"dataset": data.fingerprint, "out": "", "threads": 0, "workers": 0}
    return hashlib.sha256(json.dumps(stable, sort_keys=True, default=str).encode()).hexdigest()[:12]


def _ray_train(config: Config, digest: str) -> None:
    cluster.start()
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    storage = Path(config.out).with_name(Path(config.out).name + ".checkpoints")
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"config": config},
        torch_config=TorchConfig(backend="nccl" if config.gpu else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=config.workers,
            use_gpu=config.gpu,
            resources_per_worker={"CPU": config.threads, **({"GPU": 1} if config.gpu else {})},
        ),
        run_config=ray.train.RunConfig(
            name=digest,
            storage_path=str(storage),
            failure_config=ray.train.FailureConfig(max_failures=config.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
            worker_runtime_env={"env_vars": {} if config.gpu else cluster.jemalloc()},
        ),
    )
    try:
        with _Tail(_log(config)):
            trainer.fit()
    except ray.train.WorkerGroupError as problem:
        for inner in problem.worker_failures.values():
            if isinstance(inner, SetupError) or isinstance(inner.__cause__, SetupError):
                raise inner if isinstance(inner, SetupError) else inner.__cause__ from None  # type: ignore[misc]
        raise
    shutil.rmtree(storage, ignore_errors=True)


def _worker(settings: dict[str, Config]) -> None:
    """One Ray Train worker."""
    import ray.train
    import ray.train.torch

    context = ray.train.get_context()
    rank = context.get_world_rank()
    workers = Workers(
        rank=rank,
        count=context.get_world_size(),
        wrap=ray.train.torch.prepare_model,
        device=ray.train.torch.get_device(),
    )

    log = _log(settings["config"])

    def report(line: Progress, write: Callable[[Path], None] | None) -> None:
        if rank == 0:
            with log.open("a") as file:
                file.write(json.dumps(asdict(line)) + "\n")
        if write is None:
            return
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = None
            if rank == 0:
                write(Path(folder))
                checkpoint = ray.train.Checkpoint.from_directory(folder)
            ray.train.report(asdict(line), checkpoint=checkpoint)

    found = ray.train.get_checkpoint()
    if found is None:
        _teach(settings["config"], workers, report, None)
        return
    with found.as_directory() as folder:
        _teach(settings["config"], workers, report, Path(folder))


def _log(config: Config) -> Path:
    """The run's log, a Progress a line: the first worker writes it, the driver prints it."""
    return Path(config.out).with_name(Path(config.out).name + ".log.jsonl")


class _Tail:
    """Prints the lines added to a log while it is open; Ray's own worker output stays out."""

    def __init__(self, log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("")
        self.log, self.stop = log, threading.Event()
        self.thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> "_Tail":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()

    def _follow(self) -> None:
        with self.log.open() as file:
            while True:
                ending = self.stop.is_set()
                for line in file:
                    _printed(Progress(**json.loads(line)), None)
                if ending:
                    return
                self.stop.wait(0.5)


def _printed(line: Progress, write: Callable[[Path], None] | None) -> None:
    print(
        f"step {line.step}/{line.steps}  loss {line.loss:.3f}  {line.tokens_per_s:,.0f} tokens/s"
        f"  ETA {duration(line.eta_s)}",
        flush=True,
    )


def _teach(config: Config, workers: Workers, report: Any, resume: Path | None) -> None:
    """Trains on this worker; the first worker writes the student folder."""
    import torch

    torch.set_num_threads(config.threads)
    data = dataset.open_(Path(config.dataset))
    tokenizer, shape = data.tokenizer(), config.student
    made = model(shape, tokenizer, seed=config.fit.seed)
    examples = _examples(config, data, tokenizer)
    kind = ClassificationLearner if shape.kind is Kind.encoder else ExtractionLearner
    learner = kind(made, examples, tokenizer)
    if workers.rank == 0:
        size = sum(one.numel() for one in made.parameters())
        print(f"train: {size / 1e6:.1f} M parameters, {len(examples):,} examples", flush=True)
    fit(learner, config.fit, workers=workers, report=report, resume=resume)
    if workers.rank == 0:
        training = {
            "fit": asdict(config.fit),
            "examples": len(examples),
            "dropped": examples.dropped,
        }
        shape_spec = {**asdict(shape), "kind": shape.kind.value}
        one = Card(
            shape.kind.value,
            config.target,
            data.task.spec(),
            shape_spec,
            training,
            data.fingerprint,
        )
        save(Path(config.out), made, tokenizer, one)


def _examples(config: Config, data: Dataset, tokenizer: Any) -> Examples:
    shape, rows = config.student, data.table("train")
    if shape.kind is Kind.encoder:
        return classification(rows, tokenizer, max_input=shape.max_input)
    target = data.task.target(
        config.target,
        positions=int(data.manifest["positions"]),
        spell=tokenizer.spell,
        unspell=tokenizer.unspell,
    )
    lessons = _lessons(rows, config.negatives)
    if config.invented:
        lessons = pa.concat_tables([lessons, _copies(lessons, data, config)])
    examples = extraction(
        lessons,
        data.task,
        target,
        tokenizer,
        max_input=shape.max_input,
        max_output=shape.max_output,
    )
    if examples.dropped > config.max_dropped * len(lessons):
        raise SetupError(
            f"{examples.dropped} of {len(lessons)} rows are longer than the student takes",
            expected=f"at most {config.max_dropped:.0%}",
            todo="raise student.max_input or student.max_output, or max_dropped",
        )
    return examples


def _copies(lessons: pa.Table, data: Dataset, config: Config) -> pa.Table:
    """Copies of the lessons under invented names and, where answers can follow, other figures."""
    seed = config.fit.seed
    copies = invented.copies(lessons, data.task, number=config.invented, seed=seed)
    kinds = ("amounts", "years", "days")
    changed = variations.varied(copies, data.task, 1.0, seed, kinds=kinds)
    replaced = {id.removesuffix("~v") for id in changed["id"].to_pylist()}
    kept = [id not in replaced for id in copies["id"].to_pylist()]
    return pa.concat_tables([changed, copies.filter(pa.array(kept, pa.bool_()))])


def _lessons(rows: pa.Table, negatives: float) -> pa.Table:
    """All rows with an event and the first of those without, in the dataset's (shuffled) order."""
    keep = np.asarray(rows["keep"])
    count = int(keep.sum() * negatives)
    without = np.flatnonzero(~keep)[:count]
    return rows.take(pa.array(np.sort(np.concatenate([np.flatnonzero(keep), without]))))


def _finish(config: Config, digest: str, data: Dataset) -> None:
    """Adds what is known only after training: the skip threshold, and the digest as the end."""
    file = Path(config.out) / STUDENT
    facts = json.loads(file.read_text())
    if config.student.kind is Kind.encoder:
        found = _threshold(config, data)
        facts["training"] |= found
        print(
            f"skip threshold {found['threshold']:.4f}: keeps {found['kept']:.1%} of validation"
            f" sentences, recall {found['recall']:.2%} (at least {found['recall_low']:.2%})"
        )
    facts["training"]["digest"] = digest
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(facts, indent=2, ensure_ascii=False))
    temporary.rename(file)
    print(f"student: {config.out}")


def _threshold(config: Config, data: Dataset) -> dict[str, float]:
    """The highest threshold with the wished recall on validation, and its lower bound (95 %)."""
    rows = data.table("val")
    if not pc.any(rows["keep"]).as_py():
        raise SetupError(
            "no events in the validation split", todo="raise split.val or add companies"
        )
    scores = np.array(
        Skip(Path(config.out), threads=config.threads).scores(rows["text"].to_pylist())
    )
    keep = np.asarray(rows["keep"])
    threshold = threshold_for(scores[keep], config.recall)
    found = int((scores[keep] >= threshold).sum())
    low, _ = clopper_pearson(found, int(keep.sum()), 0.95)
    return {
        "threshold": float(threshold),
        "recall": found / int(keep.sum()),
        "recall_low": low,
        "kept": float((scores >= threshold).mean()),
    }


def threshold_for(scores: Any, recall: float) -> float:
    """The highest threshold that keeps at least `recall` of these scores of true events."""
    ordered = np.sort(np.asarray(scores))
    lost = int((1 - recall) * len(ordered) + 1e-9)
    return float(ordered[lost])
