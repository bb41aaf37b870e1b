# make demo: the whole way on an embedded PostgreSQL.   make test: the tests.
# Both set up .venv first, once; a changed pyproject.toml sets it up again.
PYTHON ?= python3
PY := .venv/bin/python

.PHONY: setup demo test check docs wheel audit clean

setup: .venv/ready

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --upgrade pip
	.venv/bin/pip install --quiet --editable '.[dev]'
	touch $@

demo: setup
	$(PY) jobs/demo.py

test: setup
	$(PY) -m pytest -n 2 --dist loadgroup --no-loadscope-reorder

check: setup
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/basedpyright
	.venv/bin/lint-imports
	$(PY) -m pytest -q tests/test_secrets.py

# The site, into site/; a page or link that is wrong fails it.
docs: setup
	.venv/bin/pip install --quiet --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict --quiet --config-file .ci/mkdocs.yml

# A wheel in an empty environment, run from another folder. RUN='demo world.filings=200' goes the way.
RUN ?= train --help
wheel: setup
	rm -rf build/wheel && mkdir -p build/wheel/elsewhere
	.venv/bin/pip wheel --quiet --no-deps --wheel-dir build/wheel .
	$(PYTHON) -m venv build/wheel/venv
	build/wheel/venv/bin/pip install --quiet build/wheel/*.whl
	cd build/wheel/elsewhere && ../venv/bin/raydistill --version && ../venv/bin/raydistill $(RUN)

# Known holes of what is installed; asks the advisory database, so it needs the network.
audit: setup
	.venv/bin/pip install --quiet --editable '.[audit]'
	.venv/bin/pip-audit --skip-editable

clean:
	rm -rf .venv runs outputs multirun build dist site .pytest_cache .ruff_cache .hypothesis
