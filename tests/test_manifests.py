"""The manifests are what KubeRay takes, with no rights to spare; the container has none either."""

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet

import raydistill
from raydistill.config import compose

ROOT = Path(__file__).parents[1]
CLUSTER = ROOT / "docs" / "cluster"
SCHEMA = json.loads((ROOT / "tests/data/kuberay_v1.schema.json").read_text())


def _errors(manifest):
    jsonschema = pytest.importorskip("jsonschema")
    whole = {**SCHEMA, **SCHEMA[manifest["kind"]]}
    found = jsonschema.Draft202012Validator(whole).iter_errors(manifest)
    return [f"{one.json_path}: {one.message[:300]}" for one in found]


@pytest.fixture(params=["rayjob", "rayservice"])
def manifest(request):
    return yaml.safe_load((CLUSTER / f"{request.param}.yaml").read_text())


def test_kuberay_knows_every_key(manifest):
    assert _errors(manifest) == []


def test_a_misspelled_key_and_a_wrong_type_are_found(manifest):
    manifest["spec"]["suspended"] = True
    _pods(manifest)[-1]["containers"][0]["securityContext"]["runAsNotRoot"] = True
    found = _errors(manifest)
    assert len(found) == 2
    assert "suspended" in found[0] + found[1]
    assert "runAsNotRoot" in found[0] + found[1]


def test_clients_of_the_clusters_need_a_token_that_no_manifest_holds(manifest):
    spec = manifest["spec"]
    options = (spec.get("rayClusterSpec") or spec["rayClusterConfig"])["authOptions"]
    assert options == {"mode": "token", "secretName": "ray-token"}


def test_images_and_ray_are_of_the_versions_that_we_have(manifest):
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bound = next(one for one in project["dependencies"] if one.startswith("ray["))
    cluster = manifest["spec"].get("rayClusterSpec") or manifest["spec"]["rayClusterConfig"]
    assert cluster["rayVersion"] in SpecifierSet(bound.partition("]")[2])
    for pod in _pods(manifest):
        for container in pod["containers"]:
            assert container["image"].endswith(f"raydistill:{raydistill.__version__}")


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
    scale = compose(verb, Config, overrides).scale
    assert scale.actors > 1
    groups = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert any(scale.labels.items() <= group["labels"].items() for group in groups)


@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_the_service_of_the_manifest_has_settings_that_there_are():
    from ray.serve.schema import ServeDeploySchema

    from raydistill.serve.settings import Config

    service = yaml.safe_load((CLUSTER / "rayservice.yaml").read_text())
    whole = ServeDeploySchema.model_validate(yaml.safe_load(service["spec"]["serveConfigV2"]))
    assert whole.http_options.port == 8000
    (app,) = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"]
    assert set(app["args"]) <= set(Config.__dataclass_fields__)
    module, name = app["import_path"].split(":")
    source = (ROOT / (module.replace(".", "/") + ".py")).read_text()
    assert f"def {name}(" in source


def _stages():
    """The container file's images in order, each a list of (instruction, rest of the line)."""
    text = (CLUSTER / "Containerfile").read_text()
    text = re.sub(r"^#.*\n", "", text, flags=re.M).replace("\\\n", " ")
    out = []
    for line in text.splitlines():
        if line.strip():
            word, _, rest = line.partition(" ")
            if word == "FROM":
                out.append([])
            out[-1].append((word, rest))
    return out


def _all(stage, word):
    return [rest for one, rest in stage if one == word]


def test_the_container_runs_as_the_unprivileged_user_of_the_manifests(manifest):
    last = _stages()[-1]
    (user,) = _all(last, "USER")
    made = next(rest for rest in _all(last, "RUN") if "useradd" in rest)
    uid = re.search(r"--uid (\d+)", made)[1]
    assert user == f"{uid}:{uid}"
    assert int(uid) >= 1000
    assert {pod["securityContext"]["runAsUser"] for pod in _pods(manifest)} == {int(uid)}
    after = [word for word, _ in last[last.index(("USER", user)) :]]
    assert not {"RUN", "COPY", "ADD"} & set(after)  # what is installed belongs to root


def test_the_containers_bases_are_pinned_to_a_python_that_we_support():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for stage in _stages():
        image = _all(stage, "FROM")[0].split()[0]
        version = re.fullmatch(r"docker\.io/library/python:(\d+\.\d+\.\d+)-slim-\w+", image)[1]
        assert version in SpecifierSet(project["requires-python"])


def test_the_container_installs_the_wheel_and_holds_no_sources_or_secrets():
    build, last = _stages()
    sources = [word for rest in _all(build, "COPY") for word in shlex.split(rest)[:-1]]
    assert all((ROOT / name).exists() for name in sources)
    assert set(sources) <= {"pyproject.toml", "README.md", "LICENSE", "raydistill", "conf", "jobs"}
    assert _all(last, "COPY") == []  # the wheel is bound, not copied
    assert any("/wheels/*.whl" in rest for rest in _all(last, "RUN"))
    for stage in (build, last):
        assert _all(stage, "ADD") == []
        given = " ".join(_all(stage, "ENV") + _all(stage, "ARG"))
        assert not re.search(r"(?i)password|token=|secret|_key", given)


def test_the_container_starts_a_verb_that_there_is():
    from raydistill.doctor import Config

    last = _stages()[-1]
    assert json.loads(_all(last, "ENTRYPOINT")[0]) == ["raydistill"]
    verb, *overrides = json.loads(_all(last, "CMD")[0])
    assert verb == "doctor"
    assert compose(verb, Config, overrides).disk_gib == 1
