"""A long pass over texts, in chunks that are kept."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from distillery_trainer.store.chunk_cache import CHUNK_TEXTS, ChunkCache

TEXTS = [f"text {i}" for i in range(2 * CHUNK_TEXTS + 10)]


def lengths(texts: Sequence[str]) -> np.ndarray:
    """A stand-in for a model: (N, 2) float32."""
    return np.array([[len(text), hash(text) % 97] for text in texts], dtype=np.float32)


def never(texts: Sequence[str]) -> np.ndarray:
    raise AssertionError(f"computed {len(texts)} texts again")


@settings(max_examples=20)
@given(st.lists(st.text(max_size=5), min_size=1, max_size=300))
def test_the_result_is_that_of_one_pass_over_all_texts(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    cache = ChunkCache(tmp_path_factory.mktemp("cache"), "model")

    assert np.array_equal(cache.compute(texts, lengths), lengths(texts))


def test_what_is_kept_is_not_computed_again(tmp_path: Path) -> None:
    ChunkCache(tmp_path, "model").compute(TEXTS, lengths)

    assert np.array_equal(ChunkCache(tmp_path, "model").compute(TEXTS, never), lengths(TEXTS))


def test_a_pass_that_broke_off_goes_on_with_the_chunk_it_was_in(tmp_path: Path) -> None:
    seen: list[str] = []

    def breaks_off(texts: Sequence[str]) -> np.ndarray:
        if seen:
            raise KeyboardInterrupt
        seen.extend(texts)
        return lengths(texts)

    with pytest.raises(KeyboardInterrupt):
        ChunkCache(tmp_path, "model").compute(TEXTS, breaks_off)
    computed: list[str] = []
    result = ChunkCache(tmp_path, "model").compute(TEXTS, lambda texts: computed.extend(texts) or lengths(texts))

    assert np.array_equal(result, lengths(TEXTS))
    assert computed == TEXTS[CHUNK_TEXTS:]


def test_another_key_is_computed_by_itself(tmp_path: Path) -> None:
    ChunkCache(tmp_path, "model").compute(TEXTS[:5], lengths)

    found = ChunkCache(tmp_path, "other model").compute(TEXTS[:5], lambda t: lengths(t) + 1)

    assert np.array_equal(found, lengths(TEXTS[:5]) + 1)


def test_any_selection_and_order_of_kept_texts_is_read_and_the_rest_computed(tmp_path: Path) -> None:
    ChunkCache(tmp_path, "model").compute(TEXTS, lengths)
    computed: list[str] = []
    texts = [*TEXTS[::-3], "other", *TEXTS[:2], "other"]

    found = ChunkCache(tmp_path, "model").compute(texts, lambda some: computed.extend(some) or lengths(some))

    assert np.array_equal(found, lengths(texts))
    assert computed == ["other"]


def test_progress_is_told_after_every_chunk(tmp_path: Path) -> None:
    heard: list[int] = []

    ChunkCache(tmp_path, "model").compute(TEXTS, lengths, heard.append)

    assert heard == [CHUNK_TEXTS, 2 * CHUNK_TEXTS, len(TEXTS)]


@pytest.mark.parametrize("damage", [
    lambda whole: b"", lambda whole: whole[: len(whole) // 2], lambda whole: bytes(len(whole)),
    lambda whole: b"{" * 200,
    lambda whole: save({"other": np.zeros((CHUNK_TEXTS, 2), np.float32)}),
    lambda whole: save({"texts": np.zeros(16, np.uint8), "values": np.zeros((3, 2), np.float32)}),
], ids=["empty", "half", "zeros", "no file of tensors", "another tensor", "fewer rows"])  # fmt: skip
def test_a_damaged_chunk_is_computed_again(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    ChunkCache(tmp_path, "model").compute(TEXTS, lengths)
    for path in tmp_path.iterdir():
        path.write_bytes(damage(path.read_bytes()))

    assert np.array_equal(ChunkCache(tmp_path, "model").compute(TEXTS, lengths), lengths(TEXTS))
