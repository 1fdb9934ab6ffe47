"""The comparison with other programs: turns, figures and what is kept, with workers that only look busy."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers.client import Answer, PeerError
from benchmarks.peers.figures import accuracy, row_record, share_of_gemm
from benchmarks.peers.journal import Journal
from benchmarks.peers.kept import kept
from benchmarks.peers.models import Model, multiply_adds
from benchmarks.peers.table import ANCHORS, CONTENDERS, Contender
from benchmarks.peers.turns import Row, answer_all, new_row, take_turns
from distillery_runtime.bench.timing import TimedTask

SLOW, FAST = "pytorch-sdpa-fp32", "ours-cpu-int8"
MODEL = Model("tiny", "decoder", (4,))
TEXTS = [[1, 2, 3, 4], [5, 6, 7, 8]]


class Pretender:
    """A worker that says it took `seconds`, and answers with the first id; after `good` runs it fails."""

    def __init__(self, seconds: float, order: list[str], name: str, good: int = 1000) -> None:
        self._seconds, self._order, self._name, self._left = seconds, order, name, good

    def run(self, ids: Sequence[int]) -> Answer:
        """Tells that it ran."""
        self._left -= 1
        if self._left < 0:
            raise PeerError("it ended")
        self._order.append(self._name)
        return Answer(self._seconds, [float(ids[0]), 1.0])


def contender(name: str) -> Contender:
    """One of the comparison."""
    return next(contender for contender in CONTENDERS if contender.name == name)


def a_row(name: str, seconds: float, order: list[str], good: int = 1000) -> Row:
    """A row of two texts."""
    return new_row(contender(name), 4, Pretender(seconds, order, name, good), {"package": "1"}, TEXTS)


def timed(*rows: Row, rounds: int = 3) -> None:
    """Warms rows up and lets them take turns."""
    answer_all(rows, lambda _: None)
    take_turns(rows, [], rounds, lambda _: None)


def test_rows_take_turns_after_a_warm_up() -> None:
    order: list[str] = []

    timed(a_row(SLOW, 0.25, order), a_row(FAST, 0.125, order), rounds=2)

    assert order == [SLOW] * 2 + [FAST] * 2 + 2 * [SLOW, FAST, FAST]


def test_each_turn_goes_on_with_the_next_text() -> None:
    row = a_row(SLOW, 1.0, [])
    seen: list[int] = []
    row.texts = [[place] for place in range(3)]
    run = row.worker.run
    row.worker.run = lambda ids: (seen.append(ids[0]), run(ids))[1]  # type: ignore[method-assign, func-returns-value]

    timed(row, rounds=4)

    assert seen[3:] == [0, 1, 2, 0]


def test_one_that_fails_stops_nobody() -> None:
    good, bad = a_row(FAST, 1.0, []), a_row(SLOW, 1.0, [], good=3)

    timed(bad, good)

    assert (bad.failure, len(good.task.rounds)) == ("it ended", 3)


def test_a_row_is_held_against_pytorch_and_ours_of_the_same_rounds() -> None:
    slow, fast = a_row(SLOW, 0.2, []), a_row(FAST, 0.1, [])
    timed(slow, fast)

    record = row_record(slow, {SLOW: slow, FAST: fast}, MODEL, 1000, {})

    assert record["ratio"] == {"runs": 3, "p10": 1.0, "p50": 1.0, "p90": 1.0}
    assert record["ratio_to_ours"] == {FAST: {"runs": 3, "p10": 0.5, "p50": 0.5, "p90": 0.5}}


def test_a_row_without_pytorch_says_that_nothing_was_compared() -> None:
    fast = a_row(FAST, 0.1, [])
    timed(fast)

    record = row_record(fast, {}, MODEL, 1000, {})

    assert record["ratio"] is None
    assert record["accuracy"] == {"mean_abs": None, "max_abs": None, "note": "no answers of PyTorch to compare with"}


def test_the_share_of_gemm_is_the_share_of_its_operations_per_second() -> None:
    model, gemm = TimedTask("model", lambda: None, [[2.0], [4.0]]), TimedTask("gemm", lambda: None, [[1.0], [2.0]])

    share = share_of_gemm(model, 900, gemm, 500)

    assert share is not None
    assert share["p50"] == pytest.approx(0.9)  # 450 a second of 500


def test_accuracy_of_raw_outputs_ranks_articles() -> None:
    expected = [[0.0, 1.0], [1.0, 2.0], [2.0, 3.0]]

    found = accuracy([[0.0, 1.5], [1.0, 2.5], [2.0, 1.0]], expected, "decoder")

    assert found["max_abs"] == 2.0
    assert (found["spearman_mean"], found["spearman_min"]) == pytest.approx((0.25, -0.5))


def test_accuracy_of_embeddings_has_cosines() -> None:
    found = accuracy([[3.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.6, 0.8]], "encoder")

    assert (found["cosine_mean"], found["cosine_min"]) == pytest.approx((0.9, 0.8))


def test_a_decoders_work_grows_with_half_of_the_square_of_its_tokens() -> None:
    config = {"hidden_size": 4, "intermediate_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}

    work = multiply_adds(config, "decoder", 3)

    linear = 4 * 4 * 4 + 3 * 4 * 8
    assert work == 2 * (3 * linear + 2 * 6 * 4)


def test_a_journal_keeps_first_rows_and_forgets_those_of_other_settings(tmp_path: Path) -> None:
    path = tmp_path / "journal.json"
    Journal(path, "a").add({FAST: [{"tokens": 1}]}, {"fp32": {}})
    Journal(path, "a").add({FAST: [{"tokens": 2}], SLOW: [{"tokens": 3}]}, {})

    same, other = Journal(path, "a"), Journal(path, "b")

    assert (same.rows, same.gemm) == ({FAST: [{"tokens": 1}], SLOW: [{"tokens": 3}]}, {"fp32": {}})
    assert (other.rows, other.gemm) == ({}, {})


def test_what_was_made_is_made_again_only_for_another_key(tmp_path: Path) -> None:
    made: list[str] = []

    for key in ("a", "a", "b"):
        kept(tmp_path / "folder", key, lambda place, key=key: made.append(key))  # type: ignore[misc]

    assert made == ["a", "b"]


def test_what_could_not_be_made_is_not_kept(tmp_path: Path) -> None:
    def fail(place: Path) -> None:
        (place / "half").touch()
        raise PeerError("no")

    with pytest.raises(PeerError):
        kept(tmp_path / "folder", "a", fail)

    assert list(kept(tmp_path / "folder", "a", lambda place: None).glob("half")) == []


def test_contenders_have_names_of_their_own_and_the_anchors_are_among_them() -> None:
    names = [contender.name for contender in CONTENDERS]

    assert len(set(names)) == len(names)
    assert set(ANCHORS) <= set(names)


def test_a_random_head_gives_outputs_like_raw_scores() -> None:
    from benchmarks.parity_graphs import random_head

    states = np.random.default_rng(0).standard_normal((50, 16), dtype=np.float32) + 30

    outputs = states @ random_head(states).T

    assert outputs.mean() == pytest.approx(5, abs=0.2)
    assert outputs.std(axis=0) == pytest.approx(np.full(6, 2.0), rel=0.01)
