# Two commands: `make demo` shows the whole of it in a few minutes, `make test` proves it.
PYTHON ?= python3
PIP_INSTALL = -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
FILTER = filters/sustainability_technology/v3

.PHONY: demo test test-all test-floor test-interpreters lint types wheel uv clean

## score with the starter, then fit -> build -> score on what the repository ships: no torch, no download of a model, no GPU
demo: .venv-demo/.installed
	.venv-demo/bin/distillery score --format table docs/demo-articles.jsonl
	.venv-demo/bin/trainer fit --filter $(FILTER) --labels $(FILTER)/examples/*.jsonl --backend static \
	  --set cascade.target_miss_rate=0.3 --run-dir .demo/run
	.venv-demo/bin/exporter build .demo/run --out .demo/bundle
	.venv-demo/bin/distillery verify .demo/bundle
	.venv-demo/bin/distillery score --bundle .demo/bundle --format table docs/demo-articles.jsonl

## the tests, offline once installed, a file at a time on each core
test: .venv/.installed
	.venv/bin/python -m pytest -n auto --dist loadfile

## the sweeps too that take minutes, kills, real servers
test-all: .venv/.installed
	.venv/bin/python -m pytest -n auto --dist loadfile -m "slow or not slow"

## the tests on the oldest versions that the three distributions allow
test-floor: .venv-floor/.installed
	.venv-floor/bin/python -m pytest -n auto --dist loadfile

## the runtime's tests on every other interpreter that is installed
test-interpreters: .venv/.installed
	.venv/bin/python tests/interpreters.py

## of the oldest syntax; a construct that is newer than Python 3.11 is an error
lint: .venv/.installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/trainer lint

## as each version of Python that we support reads them
types: .venv/.installed
	.venv/bin/mypy --python-version 3.11
	.venv/bin/mypy --python-version 3.12
	.venv/bin/mypy --python-version 3.13

## the runtime's wheel by itself in a clean environment
wheel: .venv/.installed
	.venv/bin/python tests/wheel_alone.py

## runtime and starter installed with uv, by hard links, in a clean environment
uv: .venv/.installed
	.venv/bin/python tests/uv_install.py

clean:
	rm -rf .venv .venv-demo .venv-floor .venv-3.* .demo dist build

.venv/.installed: constraints.txt pyproject.toml trainer/pyproject.toml exporter/pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check "pip>=25.1"
	.venv/bin/python $(PIP_INSTALL) --group dev -e . -e "trainer[torch]" -e "exporter[torch,sign]"
	touch $@

.venv-demo/.installed: constraints.txt pyproject.toml starter/pyproject.toml trainer/pyproject.toml exporter/pyproject.toml
	$(PYTHON) -m venv .venv-demo
	.venv-demo/bin/python $(PIP_INSTALL) -e ".[starter]" -e trainer -e exporter
	touch $@

.venv-floor/.installed: constraints-floor.txt pyproject.toml trainer/pyproject.toml exporter/pyproject.toml
	$(PYTHON) -m venv .venv-floor
	.venv-floor/bin/python -m pip install --quiet --disable-pip-version-check "pip>=25.1"
	.venv-floor/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints-floor.txt \
	  --group dev -e . -e "trainer[torch]" -e "exporter[torch,sign]"
	touch $@
