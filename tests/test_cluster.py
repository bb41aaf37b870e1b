"""Three nodes on one machine: a submitted backfill outlives a node. The manifests are sound."""

from pathlib import Path

import pytest
import yaml

from raydistill import events, postgres
from raydistill.bench.nodes import Nodes, finished
from raydistill.config import compose
from raydistill.demo.world import world, write
from raydistill.pipeline import Cascade
from raydistill.source import PostgresSentences, SourceConfig

ROOT = Path(__file__).parents[1]
CLUSTER = ROOT / "docs" / "cluster"
EVENTS = "SELECT sentence_id, ordinal, event_type, subject, object FROM raydistill.events"


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.postgres
def test_a_submitted_backfill_loses_nothing_when_its_node_dies(database, tiny, tmp_path):
    from raydistill.bench.cluster import committed, until, working_dir

    write(world(seed=11, filings=40, companies=20, sentences_per_filing=60), database)
    with Nodes(2, cpus=1) as nodes:
        job = nodes.submit(
            working_dir(tmp_path / "code"), "python", "jobs/backfill.py", f"root={tmp_path}",
            f"release={tiny.release.folder}", f"source.dsn='{database}'",
            "scale.actors=2", "scale.threads=1", "scale.chunk=100", wait=False,
        )  # fmt: skip
        until(lambda: committed(database) >= 3, job)
        nodes.kill_one_with("MapWorker")
        assert committed(database) < 40
        finished(job)
    assert committed(database) == 40
    named = SourceConfig().sentences
    sentences = PostgresSentences(database, named.table, named.columns)
    table = Cascade(tiny.release.folder, threads=1)(
        sentences.read([name for name, _ in sentences.filings()])
    )
    rows = events.rows(table, tiny.release.task).events.to_pylist()
    names = ("sentence_id", "ordinal", "event_type", "subject", "object")
    assert set(postgres.fetch(database, EVENTS)) == {tuple(r[n] for n in names) for r in rows}


@pytest.fixture(params=["rayjob", "rayservice"])
def manifest(request):
    return yaml.safe_load((CLUSTER / f"{request.param}.yaml").read_text())


def _pods(manifest):
    spec = manifest["spec"]
    cluster = spec.get("rayClusterSpec") or spec["rayClusterConfig"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def test_pods_of_the_manifests_have_no_rights_to_spare(manifest):
    for pod in _pods(manifest):
        assert pod["securityContext"]["runAsNonRoot"]
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"]["drop"] == ["ALL"]
            assert container["resources"]["requests"] == container["resources"]["limits"]


def test_what_the_pods_mount_is_there(manifest):
    for pod in _pods(manifest):
        volumes = {one["name"] for one in pod["volumes"]}
        for container in pod["containers"]:
            assert {one["name"] for one in container["volumeMounts"]} <= volumes


def test_the_job_of_the_manifest_is_a_backfill_that_composes():
    from raydistill.backfill import Config

    job = yaml.safe_load((CLUSTER / "rayjob.yaml").read_text())
    program, verb, *overrides = job["spec"]["entrypoint"].split()
    assert (program, verb) == ("raydistill", "backfill")
    assert compose(verb, Config, overrides).scale.actors > 1


def test_the_service_of_the_manifest_has_settings_that_there_are():
    from raydistill.serve.settings import Config

    service = yaml.safe_load((CLUSTER / "rayservice.yaml").read_text())
    (app,) = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"]
    assert set(app["args"]) <= set(Config.__dataclass_fields__)
    module, name = app["import_path"].split(":")
    source = (ROOT / (module.replace(".", "/") + ".py")).read_text()
    assert f"def {name}(" in source


def test_the_container_runs_unprivileged():
    lines = (CLUSTER / "Containerfile").read_text().splitlines()
    users = [line.split()[1] for line in lines if line.startswith("USER")]
    assert users
    assert users[-1].split(":")[0] not in ("0", "root")
