# Two commands: `make demo` shows the whole of it in a few minutes, `make test` proves it.
PYTHON ?= python3
PIP_INSTALL = -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
FILTER = filters/sustainability_technology/v4
PYTHONS = 3.11 3.12 3.13
PYTEST = python -m pytest -n auto --dist loadfile
INSTALLS = pyproject.toml trainer/pyproject.toml exporter/pyproject.toml
unexport PYTHONDONTWRITEBYTECODE  # a hundred processes of the tests would each compile everything

.PHONY: demo test test-all test-floor test-interpreters lint types wheel uv clean

## score with the starter, then fit -> build -> score on what the repository ships: no torch, no download of a model, no GPU
demo: .venv-demo/.installed
	.venv-demo/bin/distillery score --filters all --format table docs/demo-articles.jsonl
	.venv-demo/bin/trainer fit --filter $(FILTER) --labels $(FILTER)/examples/*.jsonl --backend static \
	  --set cascade.target_miss_rate=0.3 --run-dir .demo/run
	.venv-demo/bin/exporter build .demo/run --out .demo/bundle
	.venv-demo/bin/distillery verify .demo/bundle
	.venv-demo/bin/distillery score --bundle .demo/bundle --format table docs/demo-articles.jsonl

## the tests, offline once installed, a file at a time on each core; a sample of each sweep
test: .venv/.installed
	.venv/bin/$(PYTEST)

## the whole suite: the sweeps that are marked slow too, and ten times as many examples of each law
test-all: .venv/.installed
	.venv/bin/$(PYTEST) -m "" --hypothesis-profile thorough

## the tests on the oldest releases that the pyproject.toml files allow, without torch and with it (on Python 3.11)
test-floor: .venv-floor/.installed .venv-floor-torch/.installed
	.venv-floor/bin/$(PYTEST) tests/runtime tests/trainer tests/exporter tests/hub
	.venv-floor-torch/bin/$(PYTEST) tests/trainer/neural tests/exporter tests/end_to_end

## the runtime's tests on each Python that is installed
test-interpreters:
	@for version in $(PYTHONS); do \
	  if python$$version -c "" 2>/dev/null; then \
	    $(MAKE) --no-print-directory .venv-$$version/.installed && .venv-$$version/bin/$(PYTEST) tests/runtime || exit 1; \
	  else echo "python$$version: not installed, skipped"; fi; \
	done

## ruff checks for its target-version, 3.11, the oldest Python that we run on
lint: .venv/.installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/trainer lint

## for each Python that we run on
types: .venv/.installed
	for version in $(PYTHONS); do .venv/bin/mypy --python-version $$version || exit 1; done

## the runtime's wheel by itself in a clean environment
wheel: .venv/.installed
	.venv/bin/python tests/wheel_alone.py

## runtime and starter installed with uv, by hard links, in a clean environment
uv: .venv/.installed
	.venv/bin/python tests/uv_install.py

clean:
	rm -rf .venv .venv-* .demo dist build

.venv/.installed: constraints.txt $(INSTALLS)
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check "pip>=25.1"
	.venv/bin/python $(PIP_INSTALL) --group dev -e . -e "trainer[torch]" -e "exporter[torch,sign]"
	touch $@

.venv-demo/.installed: constraints.txt starter/pyproject.toml $(INSTALLS)
	$(PYTHON) -m venv .venv-demo
	.venv-demo/bin/python $(PIP_INSTALL) -e ".[starter]" -e trainer -e exporter
	touch $@

.venv-floor/.installed: constraints-floor.txt $(INSTALLS)
	$(PYTHON) -m venv .venv-floor
	.venv-floor/bin/python -m pip install --quiet --disable-pip-version-check "pip>=25.1"
	.venv-floor/bin/python $(PIP_INSTALL:constraints.txt=constraints-floor.txt) --group test -e ".[hub,sign]" -e trainer -e exporter
	touch $@

.venv-floor-torch/.installed: constraints-floor-torch.txt $(INSTALLS)
	$(PYTHON) -m venv .venv-floor-torch
	.venv-floor-torch/bin/python -m pip install --quiet --disable-pip-version-check "pip>=25.1"
	.venv-floor-torch/bin/python $(PIP_INSTALL:constraints.txt=constraints-floor-torch.txt) --group test \
	  -e . -e "trainer[torch]" -e "exporter[torch,sign]"
	touch $@

.venv-3.%/.installed: constraints.txt $(INSTALLS)
	python3.$* -m venv .venv-3.$*
	.venv-3.$*/bin/python -m pip install --quiet --disable-pip-version-check "pip>=25.1"
	.venv-3.$*/bin/python $(PIP_INSTALL) --group test -e ".[hub,sign]" -e trainer -e exporter
	touch $@
