"""Articles without labels: read in order, composed as in scoring, what is unusable counted."""

import json
from pathlib import Path

import pytest

from distillery_runtime.errors import InputError
from distillery_runtime.spec.model import FilterSpec, PrefilterRule, TextPolicy
from distillery_trainer.data.pool import admitted, new_texts, read_pool


def lines(path: Path, *records: object) -> Path:
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in records), encoding="utf-8")
    return path


def test_texts_are_composed_and_what_is_no_article_is_counted(tmp_path: Path) -> None:
    first = lines(
        tmp_path / "a.jsonl", {"id": "a", "title": "T", "text": " x  y "}, "{", {"id": "b"}, {"title": "no id"}
    )
    second = lines(tmp_path / "b.jsonl", {"id": "c", "title": "", "text": "z"}, {"id": "d", "title": "", "text": " "})

    pool = read_pool([first, second], TextPolicy())

    assert pool.ids == ("a", "c")
    assert pool.texts == (f"T{TextPolicy().title_separator}x y", "z")
    assert pool.unusable == 4


def test_a_missing_file_and_files_without_an_article_are_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone.jsonl: no such file"):
        read_pool([tmp_path / "gone.jsonl"], TextPolicy())
    with pytest.raises(InputError, match="no usable article, 1 other lines"):
        read_pool([lines(tmp_path / "a.jsonl", "{")], TextPolicy())


def test_new_texts_are_no_near_duplicates_of_known_ones_nor_of_one_another() -> None:
    story = " ".join(f"word{i}" for i in range(40))
    known, fresh, other = story, story.replace("word", "term"), story.replace("word", "thing")

    assert new_texts([known + " again", fresh, fresh + " once more", other], [known]) == [fresh, other]


def test_what_a_rule_of_the_filter_blocks_is_not_admitted(tmp_path: Path, spec: FilterSpec) -> None:
    rule = PrefilterRule(name="sport", mode="block", words=("football",))
    records = {"id": "a", "title": "Football", "text": "x"}, {"id": "b", "title": "", "text": "y"}
    pool = read_pool([lines(tmp_path / "a.jsonl", *records)], TextPolicy())

    texts = admitted(pool, spec.model_copy(update={"prefilter": (rule,)}))

    assert texts == [f"{TextPolicy().title_separator}y".strip()]
