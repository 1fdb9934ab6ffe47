"""A filter and labels that a tiny model learns in seconds."""

import json
import random
from pathlib import Path

import pytest

from distillery_trainer.filters.scaffold import CONFIG, PROMPT, README

GREEN = ("river", "wind", "tree", "sun")
TOWN = ("city", "school", "art", "old")


@pytest.fixture(scope="session")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty articles labelled by how many of their words are green and how many are of the town."""
    generator = random.Random(3)
    path = tmp_path_factory.mktemp("labels") / "labels.jsonl"
    lines = []
    for i in range(60):
        words = generator.choices(
            [*(GREEN if generator.random() < 0.5 else TOWN), "a", "the"], k=generator.randrange(4, 60)
        )
        scores = {
            "relevance": round(20 * sum(w in GREEN for w in words) / len(words)) / 2,
            "evidence_quality": round(20 * sum(w in TOWN for w in words) / len(words)) / 2,
        }
        lines.append(json.dumps({"id": f"a{i}", "title": "the", "text": " ".join(words), "labels": scores}))
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def filter_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("filters") / "tiny"
    folder.mkdir()
    (folder / "config.yaml").write_text(CONFIG.format(name="tiny"), encoding="utf-8")
    (folder / "prompt.md").write_text(PROMPT, encoding="utf-8")
    (folder / "README.md").write_text(README.format(name="tiny"), encoding="utf-8")
    return folder
