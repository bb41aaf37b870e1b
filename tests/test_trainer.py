"""Training by Ray Train: two workers, one of them killed."""

import os
import signal
from functools import partial
from pathlib import Path

import pytest

from raydistill import train
from raydistill.errors import SetupError
from raydistill.on_ray import trainer
from raydistill.student.fit import FitConfig
from raydistill.student.folder import card
from raydistill.student.masters import Skip
from raydistill.student.shape import Kind, Shape
from tests.fix_tiny import Tiny

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # Ray's own, in its threads
]


@pytest.fixture
def ray():
    import ray

    from raydistill.on_ray import cluster

    ran = ray.is_initialized()
    cluster.start(cpus=2)
    yield ray
    if not ran:
        ray.shutdown()


def _config(tiny: Tiny, out: Path, **settings) -> train.Config:
    return train.Config(
        dataset=str(tiny.dataset.folder), out=str(out), threads=1,
        student=Shape(kind=Kind.encoder, width=16, layers=1, heads=2, max_input=96),
        fit=FitConfig(steps=12, batch_tokens=600, bf16=False, log_every=1, checkpoint_every=2),
        **settings,
    )  # fmt: skip


def _dying(config, marker, workers, report, resume):
    """Trains; the second worker ends as by `kill -9` at its sixth step, once."""

    def watched(line, write):
        report(line, write)
        if workers.rank == 1 and line.step == 6 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    train._teach(config, workers, watched, resume)


def test_a_killed_worker_is_replaced_and_the_run_goes_on_from_its_checkpoint(
    tiny: Tiny, tmp_path: Path, ray
) -> None:
    import tests.test_trainer as here

    ray.cloudpickle.register_pickle_by_value(here)
    config = _config(tiny, tmp_path / "student", workers=2)
    marker = tmp_path / "killed"
    crew = trainer.Crew(
        name="dying", workers=2, threads=1, gpu=False, max_failures=1,
        storage=tmp_path / "checkpoints", log=tmp_path / "log.jsonl",
    )  # fmt: skip
    lines = []
    trainer.train(partial(_dying, config, marker), crew, lines.append)
    assert marker.exists()
    steps = [line.step for line in lines]
    assert sorted(set(steps)) == list(range(1, 13))
    assert steps.count(1) == steps.count(12) == 1  # not from the beginning, and to the end once
    assert Skip(tmp_path / "student").scores(["The Company dismissed its auditor."])[0] > 0
    assert card(tmp_path / "student").training["examples"] > 0
    assert not crew.storage.exists()


def test_more_than_the_cluster_has_is_refused_before_it_waits(
    tiny: Tiny, tmp_path: Path, ray
) -> None:
    with pytest.raises(SetupError, match="cluster with 0 GPUs"):
        train.run(_config(tiny, tmp_path / "a", workers=1, gpu=True))
    with pytest.raises(SetupError, match="workers=999 of threads=1"):
        train.run(_config(tiny, tmp_path / "b", workers=999))
