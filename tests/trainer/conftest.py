"""A small filter, labelled articles, folders and oracle servers for the half of the trainer that needs no torch."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from distillery_runtime.spec.model import FilterSpec
from distillery_runtime.spec.reading import parse_spec
from distillery_trainer.evaluate.evaluation import (
    MEASURES,
    CascadeUse,
    Evaluation,
    Missed,
    PrefilterUse,
    Ranking,
    RecallAt,
    SplitSizes,
    SystemDifferences,
    SystemFigures,
    Systems,
)
from distillery_trainer.evaluate.metrics import Decisions, Errors
from distillery_trainer.evaluate.paired import Difference, Differences
from distillery_trainer.filters.scaffold import CONFIG, init_filter

REPOSITORY = Path(__file__).parents[2]
if str(REPOSITORY / "tests" / "servers") not in sys.path:
    sys.path.insert(0, str(REPOSITORY / "tests" / "servers"))

FOUND = (8.0, 8.0)
PASSED_OVER = (2.0, 8.0)
Server = Any  # Any: OracleServer, which cannot be imported before the path is set


@pytest.fixture(scope="session")
def spec() -> FilterSpec:
    """The filter that `trainer init` writes: relevance (0.6) and evidence_quality (0.4, gatekeeper), tiers 7, 4, 0."""
    return parse_spec(yaml.safe_load(CONFIG.format(name="topic")), "config.yaml")


@pytest.fixture
def figures() -> SystemFigures:
    """A system's figures on 1,500 articles: MAE 0.7 to 0.9, recall 0.6 to 1 of 1,000 finds."""
    errors = Errors(mae=0.8, rmse=1.0, bias=0.0, spearman=0.9)
    decisions = Decisions(positives=1000, predicted=1000, precision=0.8, recall=0.8, f1=0.8)
    return SystemFigures(
        n=1500,
        finds=decisions,
        average_precision=0.8,
        slope=0.7,
        mae=0.8,
        rmse=1.0,
        overall=errors,
        dimensions={"relevance": errors, "evidence_quality": errors},
        tiers={"medium": decisions},
        recall_at=Ranking(RecallAt(1000, 0.8), RecallAt(150, 0.15)),
        intervals=dict.fromkeys(MEASURES, (0.6, 1.0)) | {"mae": (0.7, 0.9), "spearman": (0.8, 1.0)},
        weighted={},
    )


@pytest.fixture
def evaluation(figures: SystemFigures) -> Evaluation:
    """An evaluation in which all systems have the same figures, yet a MAE 0.1 to 0.3 below that of the TF-IDF ridge."""
    gain = Differences(Difference(-0.2, (-0.3, -0.1)), Difference(0.2, (0.1, 0.3)))
    return Evaluation(
        filter="topic-1",
        backend="static",
        split_sizes=SplitSizes(6000, 1500, 1500),
        parts={"total": Systems(figures, figures, figures, figures, figures, figures)},
        differences={"total": SystemDifferences(gain, gain, gain)},
        noise_floor=None,
        cascade=CascadeUse(None, 0.0, Missed(1000, 0)),
        prefilter=PrefilterUse(0, 0, 0),
    )


@pytest.fixture
def filters_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder where filters live."""
    root = tmp_path / "filters"
    monkeypatch.setenv("DISTILLERY_FILTERS", str(root))
    return root


@pytest.fixture
def new_filter(filters_root: Path) -> Path:
    """The folder of a filter just started: topic/v1."""
    return init_filter("topic")


@pytest.fixture
def row() -> Callable[..., dict[str, Any]]:
    """Makes one labelled article's record; keyword arguments replace its parts."""

    def make(article_id: str, **changes: object) -> dict[str, Any]:
        labels = {"relevance": 5.0, "evidence_quality": 4.5}
        return {"id": article_id, "title": "A title", "text": f"The text of {article_id}.", "labels": labels} | changes

    return make


@pytest.fixture
def write_rows(tmp_path: Path) -> Callable[..., Path]:
    """Writes records (or lines as they are) into a JSON lines file of the test's folder."""

    def write(name: str, rows: Sequence[Mapping[str, object] | str]) -> Path:
        path = tmp_path / name
        lines = [line if isinstance(line, str) else json.dumps(line) for line in rows]
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def topic_rows() -> Callable[[int], list[dict[str, Any]]]:
    """Makes N articles of random words, every other of them about `solar` and labelled high for it."""

    def make(count: int) -> list[dict[str, Any]]:
        rng = np.random.default_rng(11)
        words = [f"word{i}" for i in range(400)]
        rows = []
        for place in range(count):
            text = [str(word) for word in rng.choice(words, size=40)]
            relevance, evidence = FOUND if place % 2 else PASSED_OVER
            text += ["solar"] * 5 if place % 2 else []
            labels = {"relevance": relevance, "evidence_quality": evidence}
            rows.append({"id": f"a{place:03}", "title": "", "text": " ".join(text), "labels": labels})
        return rows

    return make


@pytest.fixture(scope="session")
def quick() -> dict[str, object]:
    """Overrides for a fit without torch that is over in a second."""
    return {
        "student.backend": "static",
        "student.static.training.epochs": 2,
        "cascade.probe.embedder": "static",
        "cascade.probe.training.epochs": 2,
        "cascade.probe.hidden": [4],
    }


@pytest.fixture(scope="session")
def articles() -> Callable[..., list[dict[str, Any]]]:
    """Makes N articles of a seed's random words; every other is about `solar`, and labelled high for it."""

    def make(count: int, seed: int, evidence: float = 8.0) -> list[dict[str, Any]]:
        generator = np.random.default_rng(seed)
        rows = []
        for place in range(count):
            words = [f"word{i}" for i in generator.integers(0, 400, size=40)] + ["solar"] * (5 * (place % 2))
            labels = {"relevance": 8.0 if place % 2 else 2.0, "evidence_quality": evidence}
            rows.append({"id": f"a{seed}-{place}", "title": "", "text": " ".join(words), "labels": labels})
        return rows

    return make


@pytest.fixture(scope="session")
def shipped_filter() -> Path:
    """The filter with labelled examples that the repository ships."""
    return REPOSITORY / "filters" / "sustainability_technology" / "v3"


@pytest.fixture(scope="session")
def shipped_labels(shipped_filter: Path) -> list[Path]:
    """Its example articles."""
    return sorted((shipped_filter / "examples").glob("*.jsonl"))


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Starts a server by a script, or by one answer for everything; it ends with the test."""
    from oracle_server import Answer, OracleServer

    with ExitStack() as stack:

        def start(script: Any, **options: Any) -> Server:  # Any: a script or an answer, and the server's options
            by_script = (lambda _: script) if isinstance(script, Answer) else script
            return stack.enter_context(OracleServer(by_script, **options))

        yield start
