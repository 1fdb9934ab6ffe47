"""Options and shared objects of the suite, and its result file: `--benchmark-json FILE` writes ours."""

import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # `pytest` alone, unlike `python -m pytest`, does not look where it was started
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch; --threads says how many the models get

import pytest  # noqa: E402 - what is ours can only be found now, and stands with it
from pytest_benchmark.fixture import BenchmarkFixture  # noqa: E402

from benchmarks.suite.demo import PANEL, make_demo_bundle  # noqa: E402
from benchmarks.suite.lab import Lab  # noqa: E402
from benchmarks.suite.result import result_record, rows_of  # noqa: E402
from benchmarks.suite.settings import Settings, add_options, read_settings  # noqa: E402
from benchmarks.suite.torch_twin import TorchTwin, open_torch_twin  # noqa: E402
from benchmarks.suite.turns import Turns  # noqa: E402
from distillery_runtime.bundles.load import open_bundle  # noqa: E402
from distillery_runtime.format.integrity import check_folder  # noqa: E402
from distillery_runtime.format.variants import FORMS, REFERENCE  # noqa: E402

DEMO_STAGES: Mapping[str, tuple[str, ...]] = {"probe": (REFERENCE.name,), "student": (REFERENCE.name,)}
SKIPPED = pytest.StashKey[Counter[str]]()
MEASURED = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declares our options."""
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Remembers what is left out, and what the result is of."""
    config.stash[SKIPPED] = Counter()
    config.stash[MEASURED] = []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A measurement for each variant that the bundle's stages have."""
    stages = _stages(metafunc.config)
    if "stage_name" in metafunc.fixturenames:
        pairs = [(name, variant) for name, variants in stages.items() for variant in variants]
        metafunc.parametrize(("stage_name", "variant"), pairs, ids=["-".join(pair) for pair in pairs])
    elif "variant" in metafunc.fixturenames:
        shipped = {variant for variants in stages.values() for variant in variants}
        metafunc.parametrize("variant", [name for name in FORMS if name in shipped])


def _stages(config: pytest.Config) -> Mapping[str, tuple[str, ...]]:
    """The variants of each stage, known to this runtime."""
    folder = config.getoption("--bundle")
    if folder is None:
        return DEMO_STAGES
    stages = check_folder(folder).manifest.stages
    return {entry.name: tuple(v.name for v in entry.variants if v.name in FORMS) for entry in stages}


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:  # Any: a generator of pluggy's results
    """Counts what is skipped, by reason."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and isinstance(report.longrepr, tuple):
        item.config.stash[SKIPPED][report.longrepr[2].removeprefix("Skipped: ")] += 1


def pytest_benchmark_generate_machine_info() -> dict[str, str]:
    """Nothing: our result describes the machine itself."""
    return {}


def pytest_benchmark_generate_json(config: pytest.Config, benchmarks: Sequence[Any]) -> dict[str, object]:
    """Our result file in the place of pytest-benchmark's."""
    names, skipped = config.stash[MEASURED], config.stash[SKIPPED]
    arguments = [str(argument) for argument in config.invocation_params.args]
    measured = "; ".join(dict.fromkeys(names))
    return result_record(read_settings(config), measured, arguments, rows_of(benchmarks), skipped)


@pytest.fixture(scope="session")
def settings(pytestconfig: pytest.Config) -> Settings:
    """The suite's options."""
    return read_settings(pytestconfig)


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where demo bundles are made."""
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="session")
def lab(settings: Settings, demo_folder: Path, pytestconfig: pytest.Config) -> Lab:
    """The bundle under measurement."""
    made = Lab(settings.bundle or make_demo_bundle(demo_folder, 1), settings)
    pytestconfig.stash[MEASURED].append(made.bundle.name)
    return made


@pytest.fixture(scope="session")
def panel_folders(settings: Settings, demo_folder: Path, pytestconfig: pytest.Config) -> Sequence[Path]:
    """The bundles of a panel."""
    folders = settings.panel or [make_demo_bundle(demo_folder, number) for number in range(1, PANEL + 1)]
    pytestconfig.stash[MEASURED].extend(open_bundle(folder).name for folder in folders)
    return folders


@pytest.fixture(scope="session")
def torch_twin(lab: Lab, settings: Settings) -> TorchTwin:
    """The same models in PyTorch, where the run is given."""
    return open_torch_twin(lab.scorer(REFERENCE.name), lab.folder, settings.torch_run, settings.threads)


@pytest.fixture
def turns(benchmark: BenchmarkFixture, settings: Settings) -> Turns:
    """Measures one benchmark."""
    return Turns(benchmark, settings.seconds)
