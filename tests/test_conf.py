"""Every YAML loads into its dataclass; the cluster file is what Ray's launcher reads."""

from importlib import import_module
from pathlib import Path

import pytest
import yaml

from raydistill.bench import main as bench
from raydistill.config import bracketed, compose, job
from raydistill.errors import SetupError

ROOT = Path(__file__).parents[1]
MODULES = {
    "demo": "demo.way",
    "bench": "bench.main",
    "serve": "serve.run",
    "questions": "demo.questions",
}
VERBS = sorted(file.stem for file in (ROOT / "conf").glob("*.yaml"))


def _config(verb):
    return import_module(f"raydistill.{MODULES.get(verb, verb)}").Config


@pytest.mark.parametrize("verb", VERBS)
def test_a_verbs_yaml_is_its_dataclass(verb):
    assert compose(verb, _config(verb), []).root


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_has_a_job(verb):
    assert f'job("{verb}"' in (ROOT / "jobs" / f"{verb}.py").read_text()


@pytest.mark.parametrize("student", [f.stem for f in (ROOT / "conf/student").glob("*.yaml")])
def test_every_student_can_be_chosen(student):
    overrides = [f"student={student}"]
    if "???" in (ROOT / f"conf/student/{student}.yaml").read_text():
        overrides.append("student.base=/models/base")
    made = compose("train", _config("train"), overrides)
    assert made.student.width % made.student.heads == 0


def test_names_of_the_users_own_can_be_given_in_any_form():
    for given in ("scale.labels={part: extract}", "scale.labels.part=extract"):
        for one in (given, f"+{given}"):
            made = compose("backfill", _config("backfill"), [one])
            assert made.scale.labels == {"part": "extract"}
    assert compose("build", _config("build"), ["merge={a: b, c: d}"]).merge == {"a": "b", "c": "d"}


def test_every_scale_and_source_can_be_chosen():
    for scale in (ROOT / "conf/scale").glob("*.yaml"):
        assert compose("backfill", _config("backfill"), [f"scale={scale.stem}"]).scale.actors > 0
    made = compose("backfill", _config("backfill"), ["source=edgar", "source.path=/filings"])
    assert made.source.path == "/filings"


@pytest.mark.parametrize(
    ("given", "rows"),
    [("rows=30", [30]), ("rows=30,300", [30, 300]), ("rows=[30, 300]", [30, 300]), ("rows=[]", [])],
)
def test_a_list_can_do_without_brackets(given, rows, monkeypatch):
    assert compose("bench", _config("bench"), [given]).rows == rows
    ran = []
    monkeypatch.setattr("sys.argv", ["jobs/bench.py", "bench=build", given])
    job("bench", _config("bench"), ran.append)
    assert [one.rows for one in ran] == [rows]


def test_a_list_of_words_paths_and_quoted_names_can_do_without_brackets():
    made = compose("build", _config("build"), ["corrections=runs/a.json,'my sheet.csv'"])
    assert made.corrections == ["runs/a.json", "my sheet.csv"]
    sweep = bracketed(_config("build"), ["seed=1,2", "corrections=", "merge={a: b}"])
    assert sweep == ["seed=1,2", "corrections=", "merge={a: b}"]


@pytest.mark.parametrize("rows", [[3], [10, 20, 30]])
def test_the_build_bench_compares_two_sizes_and_says_so(rows):
    with pytest.raises(SetupError, match="rows=300000,3000000"):
        bench.run(bench.Config(bench="build", rows=rows))


@pytest.mark.filterwarnings("ignore")
def test_ray_accepts_the_cluster_file():
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(yaml.safe_load((ROOT / "cluster.yaml").read_text()))
    validate_config(config)
