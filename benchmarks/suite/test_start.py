"""New processes: importing the runtime, opening a bundle up to the first score, and memory on the way."""

import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from benchmarks.suite.lab import Lab
from benchmarks.suite.settings import ROOT
from benchmarks.suite.turns import Turns
from distillery_runtime.format.variants import FORMS

HEAVY = ("torch", "transformers", "sklearn", "scipy", "pandas", "onnx")

Report = dict[str, Any]  # Any: JSON


@pytest.fixture(scope="module")
def articles(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample as a file."""
    path = tmp_path_factory.mktemp("sample") / "articles.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in lab.records), encoding="utf-8")
    return path


def test_import(turns: Turns) -> None:
    """A Python that imports the runtime, beside one that does nothing; nothing heavy may be loaded."""
    code = "import json, sys, distillery_runtime; print(json.dumps(sorted(sys.modules)))"
    loaded = {name.partition(".")[0] for name in json.loads(_python("-c", code))}
    heavy = sorted(loaded & set(HEAVY))

    facts = {"heavy_modules": ", ".join(heavy) or "none", "packages": len(loaded - set(sys.stdlib_module_names))}
    turns.measure(
        "import",
        lambda: _python("-c", "import distillery_runtime"),
        facts,
        lambda: _python("-c", "pass"),
        "bare_python",
    )
    assert heavy == [], f"importing the runtime loads {', '.join(heavy)}, expected none of {', '.join(HEAVY)}"


def test_cold_start(lab: Lab, turns: Turns, articles: Path, variant: str) -> None:
    """A new process up to its first score, which must be that of one that has long been running."""
    warm = lab.scorer(variant).score(lab.records[0])
    reports: list[Report] = []

    facts = {"variant": variant, "against": "the same article in a process that had scored before"}
    turns.measure("cold start", lambda: reports.append(_worker(lab, variant, articles, 1)), facts)
    overall = reports[-1]["overalls"][0]
    facts = {key: median(report[key] for report in reports) for key in ("import_s", "load_s", "first_score_s")}
    difference = None if warm.overall is None or overall is None else abs(warm.overall - overall)
    turns.benchmark.extra_info.update(facts, largest_difference=difference)
    assert overall == warm.overall


def test_memory(lab: Lab, turns: Turns, articles: Path, variant: str) -> None:
    """What a process holds after each step of scoring the sample."""
    warm = [result.overall for result in lab.scorer(variant).score_batch(lab.records[1:])]
    reports: list[Report] = []

    facts = {"variant": variant, "articles": len(lab.records), "against": "the same batch in another process"}
    turns.measure("memory", lambda: reports.append(_worker(lab, variant, articles, len(lab.records))), facts)
    last = reports[-1]
    kept = {key: value for key, value in last.items() if key.endswith("_mib")}
    pairs = [(a, b) for a, b in zip(warm, last["overalls"][1:], strict=True) if a is not None and b is not None]
    difference = max((abs(a - b) for a, b in pairs), default=None)
    turns.benchmark.extra_info.update(kept, largest_difference=difference)


def _worker(lab: Lab, variant: str, articles: Path, count: int) -> Report:
    """A new process that scores the first `count` articles."""
    options = [variant, FORMS[variant].device, str(lab.settings.threads), str(articles), str(count)]
    report: Report = json.loads(_python("-m", "benchmarks.suite.worker", str(lab.folder.resolve()), *options))
    return report


def _python(*arguments: str) -> str:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout
