"""Ray Train: the training loop on one worker or many, restarted from the last checkpoint.

What is trained is the caller's: it gets its place among the workers, a way to report, and the
checkpoint to go on from.
"""

import json
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from raydistill.errors import SetupError
from raydistill.on_ray import cluster
from raydistill.student.fit import Progress, Report, Workers, from_first

Teach = Callable[[Workers, Report, Path | None], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """How many workers, of what, and where they leave what they wrote.

    Checkpoints lie under `storage`, by `name`; the first worker's Progress lines in `log`.
    """

    name: str
    workers: int
    threads: int
    gpu: bool
    max_failures: int
    storage: Path
    log: Path


def train(teach: Teach, crew: Crew, watch: Callable[[Progress], None]) -> None:
    """Runs `teach` on every worker; `watch` gets the lines of the first. Raises its SetupErrors."""
    cluster.start()
    import ray
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    if not cluster.joined():  # one that was joined may grow
        _refuse_missing(crew, ray.cluster_resources())
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"teach": teach, "log": crew.log},
        torch_config=TorchConfig(backend="nccl" if crew.gpu else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=crew.workers,
            use_gpu=crew.gpu,
            resources_per_worker=_resources(crew),
        ),
        run_config=ray.train.RunConfig(
            name=crew.name,
            storage_path=str(crew.storage),
            failure_config=ray.train.FailureConfig(max_failures=crew.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
            worker_runtime_env={"env_vars": {} if crew.gpu else cluster.jemalloc()},
        ),
    )
    if not (crew.storage / crew.name).is_dir():
        crew.log.unlink(missing_ok=True)  # of another run
    try:
        with _Tail(crew.log, watch):
            trainer.fit()
    except ray.train.WorkerGroupError as problem:
        for inner in problem.worker_failures.values():
            for cause in (inner, inner.__cause__):
                if isinstance(cause, SetupError):
                    raise cause from None
        raise
    shutil.rmtree(crew.storage, ignore_errors=True)


def _resources(crew: Crew) -> dict[str, float]:
    return {"CPU": crew.threads, **({"GPU": 1} if crew.gpu else {})}


def _refuse_missing(crew: Crew, resources: Mapping[str, Any]) -> None:
    cpus, gpus = resources.get("CPU", 0), resources.get("GPU", 0)
    if crew.gpu and gpus < crew.workers:
        raise SetupError(
            f"gpu=true workers={crew.workers} on a cluster with {gpus:.0f} GPUs",
            expected="a GPU for each worker",
            todo="set gpu=false, or workers= to the number of GPUs",
        )
    if cpus < crew.workers * crew.threads:
        raise SetupError(
            f"workers={crew.workers} of threads={crew.threads} on a cluster with {cpus:.0f} CPUs",
            expected="as many CPUs as all workers' threads",
            todo="lower workers= or threads=",
        )


def _worker(settings: dict[str, Any]) -> None:
    """One Ray Train worker."""
    import ray.train
    import ray.train.torch

    context = ray.train.get_context()
    rank, device = context.get_world_rank(), ray.train.torch.get_device()
    count = context.get_world_size()
    workers = Workers(
        rank=rank,
        count=count,
        wrap=ray.train.torch.prepare_model,
        device=device,
        agreed=(lambda value: from_first(value, device)) if count > 1 else (lambda value: value),
    )
    log: Path = settings["log"]

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
        settings["teach"](workers, report, None)
        return
    with found.as_directory() as folder:
        settings["teach"](workers, report, Path(folder))


class _Tail:
    """Gives the lines added to a log while it is open; Ray's own worker output stays out."""

    def __init__(self, log: Path, watch: Callable[[Progress], None]) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch()
        self.log, self.watch, self.stop = log, watch, threading.Event()
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
                    self.watch(Progress(**json.loads(line)))
                if ending:
                    return
                self.stop.wait(0.5)
