"""Articles for the tiny transformers of the root conftest to learn from."""

from types import SimpleNamespace

import numpy as np
import pytest

GREEN = ["river", "wind", "tree", "sun"]
TOWN = ["city", "school", "art", "old"]


@pytest.fixture(scope="session")
def articles() -> SimpleNamespace:
    """Texts of 2 to 30 words, labelled by how green and how urban their words are; the error of a constant answer."""
    rng = np.random.default_rng(7)
    texts = [_text(rng) for _ in range(48)]
    labels = np.array([_labels(text) for text in texts], dtype=np.float32)
    constant_mae = float(np.abs(labels[36:] - labels[:36].mean(axis=0)).mean())
    return SimpleNamespace(
        train_texts=texts[:36],
        train_labels=labels[:36],
        val_texts=texts[36:],
        val_labels=labels[36:],
        constant_mae=constant_mae,
    )


def _labels(text: str) -> list[float]:
    words = text.split()
    return [10 * sum(word in group for word in words) / len(words) for group in (GREEN, TOWN)]


def _text(rng: np.random.Generator) -> str:
    group = GREEN if rng.random() < 0.5 else TOWN
    return " ".join(rng.choice([*group, "a"], size=int(rng.integers(2, 30))))
