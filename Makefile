# make demo: the whole way on an embedded PostgreSQL.   make test: the tests.
# Both set up .venv first, once; a changed pyproject.toml sets it up again.
PYTHON ?= python3
PY := .venv/bin/python

.PHONY: setup demo test check clean

setup: .venv/ready

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --upgrade pip
	.venv/bin/pip install --quiet --editable '.[dev]'
	touch $@

demo: setup
	$(PY) jobs/demo.py

test: setup
	$(PY) -m pytest

check: setup
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/basedpyright
	.venv/bin/lint-imports

clean:
	rm -rf .venv runs outputs multirun build dist .pytest_cache .ruff_cache .hypothesis
