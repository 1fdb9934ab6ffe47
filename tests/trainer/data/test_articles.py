"""Articles of unchecked files: read in order, composed as in scoring, each unusable line with its fault."""

import json
from pathlib import Path

import pytest

from distillery_runtime.errors import InputError
from distillery_runtime.spec.model import FilterSpec, PrefilterRule, TextPolicy
from distillery_trainer.data.articles import UnusableLine, admitted, collect_received, read_lines, read_pool


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


def test_each_line_gives_an_article_with_its_record_or_one_fault(tmp_path: Path) -> None:
    good = {"id": "a", "title": "T", "text": "x", "source": "a feed"}
    file = lines(tmp_path / "a.jsonl", good, "{", {"id": "b"}, {"id": "c", "text": "<p> </p>", "labels": 1})

    (record, article), *others = read_lines(file, TextPolicy(strip_markup=True))

    assert not isinstance(article, UnusableLine)
    assert (record, article.record, article.id, article.where) == (good, good, "a", f"{file}: article 1")
    assert [(record, getattr(line, "fault", None)) for record, line in others] == [
        ({}, "no object"),
        ({"id": "b"}, "no article"),
        ({"id": "c", "text": "<p> </p>", "labels": 1}, "no text"),
    ]


def test_records_that_are_kept_can_be_written_and_have_each_id_once(tmp_path: Path) -> None:
    long, again = {"id": "a", "text": "x" * 50}, {"id": "a", "text": "y"}
    unwritable = '{"id": "b", "text": "x", "url": "\\ud800"}'
    file = lines(tmp_path / "a.jsonl", long, again, {"id": "a", "text": "z"}, unwritable)

    received = collect_received([file], TextPolicy(), max_characters=40)
    pool = read_pool([file], TextPolicy())

    assert [article.record for article in received.articles] == [again]
    assert [line.fault for line in received.unusable] == ["too long", "repeated id", "not writable"]
    assert pool.ids == ("a", "a", "a", "b")


def test_what_a_rule_of_the_filter_blocks_is_not_admitted(tmp_path: Path, spec: FilterSpec) -> None:
    rule = PrefilterRule(name="sport", mode="block", words=("football",))
    records = {"id": "a", "title": "Football", "text": "x"}, {"id": "b", "title": "", "text": "y"}
    pool = read_pool([lines(tmp_path / "a.jsonl", *records)], TextPolicy())

    texts = admitted(pool, spec.model_copy(update={"prefilter": (rule,)}))

    assert texts == [f"{TextPolicy().title_separator}y".strip()]
