# Two commands: `make demo` shows the whole of it in a few minutes, `make test` proves it.
PYTHON ?= python3
PIP_INSTALL = -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
FILTER = filters/sustainability_technology/v3

.PHONY: demo test lint types wheel uv clean

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

lint: .venv/.installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/trainer lint

types: .venv/.installed
	.venv/bin/mypy

## the runtime's wheel by itself in a clean environment
wheel: .venv/.installed
	.venv/bin/python tests/wheel_alone.py

## runtime and starter installed with uv, by hard links, in a clean environment
uv: .venv/.installed
	.venv/bin/python tests/uv_install.py

clean:
	rm -rf .venv .venv-demo .demo dist build

.venv/.installed: constraints.txt pyproject.toml trainer/pyproject.toml exporter/pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check "pip>=25.1"
	.venv/bin/python $(PIP_INSTALL) --group dev -e . -e "trainer[torch]" -e "exporter[torch,sign]"
	touch $@

.venv-demo/.installed: constraints.txt pyproject.toml starter/pyproject.toml trainer/pyproject.toml exporter/pyproject.toml
	$(PYTHON) -m venv .venv-demo
	.venv-demo/bin/python $(PIP_INSTALL) -e ".[starter]" -e trainer -e exporter
	touch $@
