"""Drawing articles to label: like the seeds or telling for a model, with odds that make the labels speak for all."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distillery_runtime.errors import InputError
from distillery_trainer.cli.main import main
from distillery_trainer.curate.draw import DrawRequest, bundle_overalls, draw, rankings
from distillery_trainer.data.labels import read_labels

Rows = list[dict[str, Any]]


def read(path: Path) -> Rows:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def without_labels(rows: Rows) -> Rows:
    return [{key: value for key, value in row.items() if key != "labels"} for row in rows]


def test_rankings_take_turns_and_the_rest_is_drawn_with_equal_odds() -> None:
    chosen = draw(100, {"a": list(range(100)), "b": [0, 1, 99, *range(2, 99)]}, DrawRequest(10, 0.4, 3))

    assert [(one.place, one.stratum) for one in chosen[:6]] == [
        (0, "a"), (1, "b"), (2, "a"), (99, "b"), (3, "a"), (4, "b"),
    ]  # fmt: skip
    assert {(one.stratum, one.inclusion) for one in chosen[6:]} == {("random", 4 / 94)}
    assert len({one.place for one in chosen}) == 10


def test_the_odds_make_a_mean_over_the_drawn_unbiased() -> None:
    values = np.linspace(10, 0, 60) ** 2
    means = []
    for seed in range(400):
        chosen = draw(60, {"top": list(range(60))}, DrawRequest(20, 0.5, seed))
        means.append(sum(values[one.place] / one.inclusion for one in chosen) / 60)

    error = np.std(means) / np.sqrt(len(means))
    assert abs(np.mean(means) - values.mean()) < 4 * error


def test_all_articles_can_be_drawn_but_not_more() -> None:
    assert {(one.place, one.inclusion) for one in draw(3, {"a": [2, 0, 1]}, DrawRequest(3))} == {(0, 1), (1, 1), (2, 1)}
    with pytest.raises(InputError, match="only 3 articles"):
        draw(3, {"a": [2, 0, 1]}, DrawRequest(4))


def test_screening_draws_what_is_like_the_seeds_and_labels_can_be_weighted_back(
    topic_rows: Callable[[int], Rows], write_rows: Callable[..., Path], tmp_path: Path, spec: Any
) -> None:
    rows = topic_rows(80)
    seeds = write_rows("seeds.jsonl", without_labels([row for row in rows if "solar" in row["text"]][:5]))
    articles, out = write_rows("pool.jsonl", rows), tmp_path / "drawn.jsonl"

    code = main(["screen", "--articles", str(articles), "--seeds", str(seeds), "--count", "20", "--out", str(out)])

    drawn = read(out)
    similar = [row for row in drawn if row["stratum"] == "similar"]
    assert code == 0
    assert len(similar) == 16
    assert sum("solar" in row["text"] for row in similar) >= 14
    assert {row["inclusion_probability"] for row in drawn if row["stratum"] == "random"} == {4 / 59}
    assert not {row["id"] for row in drawn} & {row["id"] for row in read(seeds)}
    assert read_labels([out], spec).sampling_weights().sum() == pytest.approx(75)


def test_telling_articles_are_near_the_tier_disputed_or_high() -> None:
    first, last = np.array([1.0, 9.0, 4.0, 2.0]), np.array([1.5, 2.0, 4.2, 9.0])

    orders = rankings(first, last, 4.0)

    assert {name: places[0] for name, places in orders.items()} == {"near_tier": 2, "disagreement": 1, "top": 3}
    assert set(rankings(last, last, 4.0)) == {"near_tier", "top"}


def test_mining_with_a_bundle_draws_admitted_articles_that_have_no_labels_yet(
    bundle: Path, write_rows: Callable[..., Path], tmp_path: Path, topic_rows: Callable[[int], Rows]
) -> None:
    rows = without_labels(topic_rows(30))
    known, out = write_rows("known.jsonl", rows[:10]), tmp_path / "drawn.jsonl"
    articles = write_rows("pool.jsonl", rows)

    code = main(["mine", "--bundle", str(bundle), "--articles", str(articles), "--known", str(known), "--count", "10",
                 "--out", str(out)])  # fmt: skip

    drawn = read(out)
    first, last = bundle_overalls(bundle, [row["text"] for row in drawn])
    assert code == 0
    assert {row["stratum"] for row in drawn} >= {"near_tier", "random"}
    assert not {row["id"] for row in drawn} & {row["id"] for row in rows[:10]}
    assert [row["last_overall"] for row in drawn] == pytest.approx(last.tolist(), abs=1e-3)
    assert [row["first_overall"] for row in drawn] == pytest.approx(first.tolist(), abs=1e-3)
