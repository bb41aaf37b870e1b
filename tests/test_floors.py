"""Each heavy library has one home; the floors themselves are checked by lint-imports."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "raydistill"
HOMES = {
    "psycopg": {"postgres.py", "pgread.py"},
    "adbc_driver_postgresql": {"pgread.py"},
    "ctranslate2": {"engine.py"},
    "torch": {"student/", "train.py"},
    "transformers": {"student/"},
    "peft": {"student/"},
    "tensorboardX": {"student/"},
    "gguf": {"gguf_form.py"},
    "llama_cpp": {"gguf_form.py"},
    "tokenizers": {"tokenizer.py"},
    "hyperscan": {"stages/prefilter.py"},
    "numba": {"stages/walk.py"},
    "selectolax": {"markup.py"},
    "omegaconf": {"config.py"},
    "hydra": {"config.py"},
    "httpx": {"endpoint.py", "client/"},
    "fastapi": {"serve/", "web/router.py"},
    "ray": {"on_ray/", "train.py", "bench/", "serve/deployment.py"},
    "rich": {"corpus/live.py"},
    "prometheus_client": {"metrics.py", "serve/metrics.py"},
    "uvicorn": {"serve/run.py"},
}


def _imports(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("library", HOMES)
def test_a_heavy_library_is_imported_at_its_home_alone(library):
    strangers = [
        name
        for file in PACKAGE.rglob("*.py")
        if library in _imports(file)
        and not (name := file.relative_to(PACKAGE).as_posix()).startswith(tuple(HOMES[library]))
    ]
    assert strangers == []
