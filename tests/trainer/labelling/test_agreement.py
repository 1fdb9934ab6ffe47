"""How far two oracles agree: by known figures, by laws, and from the command line."""

import json
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillery_runtime.spec.model import FilterSpec
from distillery_trainer.cli.main import main
from distillery_trainer.data.labels import read_labels
from distillery_trainer.evaluate.agreement import agreement, weighted_alpha

Score = st.integers(0, 20).map(lambda half: half / 2)
Pairs = st.lists(st.tuples(Score, Score), min_size=2, max_size=12)


@pytest.fixture
def labels(tmp_path: Path) -> Callable[..., Path]:
    """Writes a labels file of the pairs (relevance, evidence_quality)."""

    def write(name: str, scores: list[tuple[float, float]], **fields: object) -> Path:
        path = tmp_path / f"{name}.jsonl"
        rows = [
            {"id": f"a{i}", "text": f"Text {i} of nothing in particular, and {i * 7} more.", "oracle": name,
             "labels": {"relevance": relevance, "evidence_quality": evidence}} | fields
            for i, (relevance, evidence) in enumerate(scores)
        ]  # fmt: skip
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write


def alpha(x: Any, y: Any) -> float:
    return float(weighted_alpha(np.asarray(x, float), np.asarray(y, float))(np.ones(len(x))))


def alpha_by_definition(x: list[float], y: list[float]) -> float:
    """Krippendorff's own formula: observed over expected disagreement, over all pairs of values."""
    values = [*x, *y]
    expected = np.mean([(v - w) ** 2 for v, w in permutations(values, 2)])
    observed = np.mean([(v - w) ** 2 for v, w in zip(x, y, strict=True)])
    return np.nan if expected == 0 else float(1 - observed / expected)


def test_alpha_of_krippendorffs_example_of_two_observers() -> None:
    """Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), part A: 0.095 for these two, yes or no."""
    one = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0]
    other = [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]

    assert alpha(one, other) == pytest.approx(0.095, abs=0.0005)


@given(Pairs)
def test_alpha_is_that_of_its_definition(pairs: list[tuple[float, float]]) -> None:
    x, y = [a for a, _ in pairs], [b for _, b in pairs]

    assert alpha(x, y) == pytest.approx(alpha_by_definition(x, y), nan_ok=True)


@given(Pairs, st.lists(st.integers(1, 3), min_size=12, max_size=12))
def test_a_weight_is_as_good_as_a_repetition(pairs: list[tuple[float, float]], counts: list[int]) -> None:
    weights = np.array(counts[: len(pairs)], float)
    x, y = np.array(pairs, float).T
    places = np.repeat(np.arange(len(pairs)), weights.astype(int))

    assert weighted_alpha(x, y)(weights) == pytest.approx(alpha(x[places], y[places]), nan_ok=True)


def test_the_figures_are_those_of_the_two_files(labels: Callable[..., Path], spec: FilterSpec) -> None:
    ours = [(float(i % 8), 5.0) for i in range(40)]
    theirs = [(relevance + 1, 5.0) for relevance, _ in ours]

    found: Any = agreement(*(read_labels([labels(n, s)], spec) for n, s in (("A", ours), ("B", theirs))), spec)

    relevance = found["dimensions"]["relevance"]
    assert relevance["bias"] == {"value": -1.0, "interval": (-1.0, -1.0)}
    assert (relevance["mae"]["value"], relevance["spearman"]["value"]) == (1.0, 1.0)
    assert relevance["alpha"]["interval"][0] < relevance["alpha"]["value"] < relevance["alpha"]["interval"][1] < 1
    assert found["dimensions"]["evidence_quality"]["alpha"] == {"value": None, "interval": None}
    assert found["mae"]["value"] == 0.5
    assert found["oracles"] == ["A", "B"]


def test_only_articles_of_both_files_count(labels: Callable[..., Path], spec: FilterSpec) -> None:
    scores = [(float(i % 8), 5.0) for i in range(20)]

    found: Any = agreement(*(read_labels([labels(n, s)], spec) for n, s in (("A", scores), ("B", scores[:15]))), spec)

    assert (found["articles"], found["only_in"]) == (15, [5, 0])


def test_tiers_are_compared_by_the_verdict(labels: Callable[..., Path], spec: FilterSpec) -> None:
    ours = [(10.0, 10.0), (10.0, 10.0), (0.0, 0.0), (0.0, 0.0), (5.0, 5.0)]
    theirs = [(10.0, 10.0), (0.0, 0.0), (10.0, 10.0), (0.0, 0.0), (7.5, 5.0)]

    found: Any = agreement(*(read_labels([labels(n, s)], spec) for n, s in (("A", ours), ("B", theirs))), spec)

    assert found["tiers"] == {"same": 3, "found_by_both": 2, "found_by_first_only": 1, "found_by_second_only": 1}


def test_the_noise_of_an_oracle_stands_beside_its_disagreement(labels: Callable[..., Path], spec: FilterSpec) -> None:
    scores = [(5.0, 5.0)] * 12
    repeats = [{"relevance": 4, "evidence_quality": 5}, {"relevance": 6, "evidence_quality": 5}]
    a, b = labels("A", scores, repeats=repeats), labels("B", scores)

    found: Any = agreement(read_labels([a], spec), read_labels([b], spec), spec)

    assert found["noise"] == [found["noise"][0] | {"articles": 12, "mae": 1.0}, None]


def test_the_command_prints_both_forms(
    labels: Callable[..., Path], topic: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = [(float(i % 8), float(i % 5)) for i in range(20)]
    files = [str(labels("A", scores)), str(labels("B", scores[::-1]))]

    main(["agree", *files, "--filter", str(topic)])
    text = capsys.readouterr().out
    main(["agree", *files, "--filter", str(topic), "--json"])
    report = json.loads(capsys.readouterr().out)

    assert "A against B: 20 articles in both" in text
    assert f"alpha {report['overall']['alpha']['value']:.3f}" in text


@pytest.mark.parametrize("fault", ["text", "ids"])
def test_files_that_are_not_of_the_same_articles_are_refused(
    labels: Callable[..., Path], topic: Path, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    scores = [(float(i % 8), 5.0) for i in range(5)]
    a, b = labels("A", scores), labels("B", scores)
    b.write_text(b.read_text().replace("Text 3", "Other") if fault == "text" else b.read_text().replace('"a', '"b'))

    code = main(["agree", str(a), str(b), "--filter", str(topic)])

    assert code == 2
    assert ("a3: another text" if fault == "text" else "0 articles in both") in capsys.readouterr().err
