"""The three commands exactly as they are typed: from the wheels, without torch, in an empty folder, offline."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.slow  # builds wheels and installs them: a minute or more, and a package index

FILTER = "sustainability_technology"
NOWHERE = "http://127.0.0.1:9"  # a proxy at which nobody answers


@pytest.fixture(scope="module")
def commands(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the commands of a new environment, with the wheels of the three distributions."""
    folder = tmp_path_factory.mktemp("installed")
    for source in (repository, repository / "trainer", repository / "exporter"):
        call(folder, sys.executable, "-m", "build", "--wheel", "--outdir", folder / "wheels", source)
    call(folder, sys.executable, "-m", "venv", folder / "venv")
    commands = folder / "venv" / "bin"
    wheels = sorted((folder / "wheels").glob("*.whl"))
    call(folder, commands / "python", "-m", "pip", "install", "-c", repository / "constraints.txt", *wheels)
    return commands


@pytest.fixture(scope="module")
def typed(commands: Path, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """The folder in which all three were typed, what the fit showed, and the results of scoring."""
    folder = tmp_path_factory.mktemp("empty")
    shown = call(folder, commands / "trainer", "fit", "--filter", FILTER).stderr
    call(folder, commands / "exporter", "build")
    results = call(folder, commands / "distillery", "score", repository / "docs" / "demo-articles.jsonl").stdout
    return folder, shown, results


def call(folder: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "DISTILLERY_FILTERS")
    }
    if "pip" not in command and "build" not in command:
        environment |= dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), NOWHERE)
        environment |= {"HF_HOME": str(folder / "no-models")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done


def test_the_environment_has_no_torch(commands: Path, tmp_path: Path) -> None:
    find = "import importlib.util; print(importlib.util.find_spec('torch'))"

    assert call(tmp_path, commands / "python", "-c", find).stdout.strip() == "None"


def test_a_fit_shows_the_filter_its_labels_and_the_backend_before_it_begins(
    typed: tuple[Path, str, str], repository: Path
) -> None:
    first = typed[1].partition("split ...")[0]

    newest = max((repository / "filters" / FILTER).glob("v*"), key=lambda folder: int(folder.name[1:]))
    examples = [line for file in newest.glob("examples/*.jsonl") for line in file.open(encoding="utf-8")]
    assert f"shipped_filters/{FILTER}/{newest.name}" in first
    assert f"{len(examples)} examples" in first
    assert "backend: static" in first


def test_the_run_and_the_bundle_name_the_backend_that_was_chosen(typed: tuple[Path, str, str]) -> None:
    folder = typed[0]
    (run,) = (folder / "runs" / FILTER).glob("v*/*")
    (bundle,) = (folder / "bundles").iterdir()
    config = yaml.safe_load((run / "config.resolved.yaml").read_text(encoding="utf-8"))
    bundled = json.loads((bundle / "filter.json").read_text(encoding="utf-8"))

    assert (config["student"]["backend"], bundled["student"]["backend"]) == ("static", "static")


def test_the_bundle_is_found_and_scores(typed: tuple[Path, str, str], repository: Path) -> None:
    results = [json.loads(line) for line in typed[2].splitlines()]

    articles = (repository / "docs" / "demo-articles.jsonl").read_text(encoding="utf-8").splitlines()
    assert [result["id"] for result in results] == [json.loads(line)["id"] for line in articles if line.strip()]
    assert {"scored"} <= {result["status"] for result in results}


def test_the_same_command_goes_on_with_the_same_run(commands: Path, typed: tuple[Path, str, str]) -> None:
    shown = call(typed[0], commands / "trainer", "fit", "--filter", FILTER).stderr

    assert "report: done before" in shown
