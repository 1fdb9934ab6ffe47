"""What a config would say in vain is refused; what it says to some effect is not."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distillery_runtime.articles.prefilter import Prefilter
from distillery_runtime.articles.text import ArticleText, normalise
from distillery_runtime.spec.model import FilterSpec, TextPolicy
from distillery_runtime.spec.reading import parse_spec
from distillery_trainer.cli.main import main
from distillery_trainer.filters.config_checks import check_config, check_unused
from distillery_trainer.filters.find import CONFIG_NAME, all_filters, is_litter
from distillery_trainer.filters.lint import lint_filter

Json = dict[str, Any]  # Any: nested JSON

SALE: Json = {"name": "sale", "words": ["sale"]}
RAW = {"strip_markup": False}

# Keys of the config and what is wrong with them; None: nothing.
CASES: dict[str, tuple[Json, str | None]] = {
    "a blank summary": ({"summary": " \n"}, "summary"),
    "a summary of invisible characters": ({"summary": "\u200b\ufeff"}, "summary"),
    "a blank model": ({"oracle": {"model": " "}}, "oracle.model"),
    "a blank base model": ({"student": {"encoder": {"base_model": " "}}}, "student.encoder.base_model"),
    "title and text run together": ({"text": {"title_separator": ""}}, "text.title_separator"),
    "title and text on one line": ({"text": {"title_separator": " "}}, None),
    "a separator that is no token": ({"student": {"window": {"separator": "\n"}}}, "student.window.separator"),
    "no separator": ({"cascade": {"probe": {"window": {"separator": ""}}}}, "cascade.probe.window.separator"),
    "no separator for no tail": ({"student": {"window": {"separator": "", "tail_share": 0}}}, None),
    "a phrase": ({"prefilter": [SALE]}, None),
    "a phrase twice": ({"prefilter": [SALE | {"words": ["sale", "Sale"]}]}, "prefilter[0].words[1]"),
    "an exception twice": ({"prefilter": [SALE | {"unless": ["aid", "aid"]}]}, "prefilter[0].unless[1]"),
    "a phrase with a soft hyphen": ({"prefilter": [SALE | {"words": ["sa\u00adle"]}]}, "prefilter[0].words[0]"),
    "a phrase with a joiner": ({"prefilter": [SALE | {"words": ["black\u200d friday"]}]}, "prefilter[0].words[0]"),
    "a phrase with an entity": ({"prefilter": [SALE | {"words": ["r&amp;d"]}]}, "prefilter[0].words[0]"),
    "a phrase with a tag": ({"prefilter": [SALE | {"words": ["<b>sale</b>"]}]}, "prefilter[0].words[0]"),
    "a phrase with a tag, which stays": ({"prefilter": [SALE | {"words": ["<b>sale</b>"]}], "text": RAW}, None),
    "an exception with a mark": ({"prefilter_unless": ["aid\ufeff"], "prefilter": [SALE]}, "prefilter_unless[0]"),
    "a phrase that is an exception": ({"prefilter": [SALE | {"unless": ["sale"]}]}, "prefilter[0].words[0]"),
    "a phrase that holds an exception": (
        {"prefilter": [SALE | {"words": ["aid for sale"], "unless": ["aid"]}]}, "prefilter[0].words[0]",
    ),
    "a phrase whose endings are no exceptions": ({"prefilter": [SALE | {"words": ["aid*"], "unless": ["aid"]}]}, None),
    "a phrase whose endings are exceptions": (
        {"prefilter": [SALE | {"words": ["aiding*"], "unless": ["aid*"]}]}, "prefilter[0].words[0]",
    ),
    "a phrase that the filter excepts": ({"prefilter": [SALE], "prefilter_unless": ["SALE"]}, "prefilter[0].words[0]"),
    "exceptions to no rule": ({"prefilter_unless": ["aid"]}, "prefilter_unless"),
    "a pattern": ({"prefilter": [SALE | {"patterns": ["sales?"]}]}, None),
    "a pattern that all texts have": ({"prefilter": [SALE | {"patterns": ["(sale)?"]}]}, "prefilter[0].patterns[0]"),
    "an empty pattern": ({"prefilter": [SALE | {"patterns": [""]}]}, "prefilter[0].patterns[0]"),
    "a pattern twice": ({"prefilter": [SALE | {"patterns": ["a", "a"]}]}, "prefilter[0].patterns[1]"),
    "a decomposed pattern": ({"prefilter": [SALE | {"patterns": ["cafe\u0301"]}]}, "prefilter[0].patterns[0]"),
    "a slice": ({"evaluation": {"slices": [{"name": "dutch", "field": "language", "includes": "nl"}]}}, None),
    "a slice of all": ({"evaluation": {"slices": [{"name": "dutch", "field": "language"}]}}, "evaluation.slices[0]"),
    "a slice of none": (
        {"evaluation": {"slices": [{"name": "dutch", "field": "language", "includes": "nl", "excludes": "n"}]}},
        "evaluation.slices[0].excludes",
    ),
    "a slice without what all have": (
        {"evaluation": {"slices": [{"name": "dutch", "field": "language", "excludes": ""}]}},
        "evaluation.slices[0].excludes",
    ),
    "languages": ({"card": {"language": ["nl", "no", "gsw"]}}, None),
    "a country": ({"card": {"language": ["nl", "jp"]}}, "card.language[1]"),
    "a language twice": ({"card": {"language": ["nl", "nl"]}}, "card.language[1]"),
    "settings of another backend": ({"student": {"backend": "encoder", "decoder": {"loss": "mse"}}}, None),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "path"), CASES.values(), ids=CASES)
def test_what_would_be_ignored_is_a_problem(spec: FilterSpec, changes: Json, path: str | None) -> None:
    data = spec.model_dump(mode="json") | changes
    parse_spec(data, "the runtime takes it")

    assert [problem.path for problem in check_config(data)] == ([path] if path else [])


@pytest.mark.parametrize(
    ("key", "value", "unused"),
    [("prefix", "query: ", True), ("pooling", "cls", True), ("pooling", "mean", False), ("revision", "v2", True)],
)
def test_what_the_static_embedder_does_not_read_is_a_problem(key: str, value: str, unused: bool) -> None:
    probe = {"embedder": "static", key: value}

    assert [p.path for p in check_unused({"cascade": {"probe": probe}})] == [f"cascade.probe.{key}"] * unused
    assert list(check_unused({"cascade": {"probe": probe | {"embedder": "some/model"}}})) == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text("aZé \u0301\u00ad\u200b&;lt<>b/\u00a0\u3164-", min_size=1, max_size=8))
def test_a_phrase_that_passes_blocks_the_article_that_is_that_phrase(spec: FilterSpec, phrase: str) -> None:
    rule = {"name": "rule", "mode": "block", "words": [phrase]}
    data = spec.model_dump(mode="json") | {"prefilter": [rule]}
    if check_config(data):
        return

    text = normalise(phrase, TextPolicy())

    found = Prefilter(parse_spec(data, "config")).check(ArticleText("", text, text))
    assert found.blocked_by == "rule"


def test_broken_data_of_any_kind_is_checked_without_an_error(spec: FilterSpec) -> None:
    for key in FilterSpec.model_fields:
        for value in (None, 3, "x", [3], [[]], {"x": 3}, [{"words": 3, "caps": 3, "anchors": []}]):
            check_config(spec.model_dump(mode="json") | {key: value})


LITTER = (
    ".DS_Store", "Thumbs.db", "desktop.ini", ".config.yaml.swp", "config.yaml~", ".#config.yaml", "#config.yaml#",
    "._config.yaml", "examples/._one.jsonl", "__MACOSX/config.yaml", ".idea/workspace.xml", ".vscode/settings.json",
    "config.yaml.orig", "prompt.md.bak", "~$README.md", ".~lock.one.csv#", ".gitkeep", "examples/.gitkeep",
)  # fmt: skip
SECOND = (
    "config.yml", "Config.yaml", "config (copy).yaml", "config copy.yaml", "config-old.yaml", "config.json",
    "Copy of config.yaml", "config 2.yaml", "old/config.yaml", "config.toml", "kopie.yaml",
    "Prompt.md", "prompt (copy).md", "prompt copy.md", "prompt-2.md", "Copy of prompt.md",
    "examples/one.json", "example/one.jsonl", "Examples/one.jsonl", "examples/more/one.jsonl", "prompt.txt", "run.py",
)  # fmt: skip


@pytest.mark.parametrize("name", LITTER)
def test_what_editors_leave_behind_is_no_problem(new_filter: Path, name: str) -> None:
    path = new_filter / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"\0\xff")

    assert lint_filter(new_filter) == []
    assert is_litter(Path(name))


@pytest.mark.parametrize("name", SECOND)
def test_a_file_that_would_be_ignored_is_a_problem(new_filter: Path, name: str) -> None:
    path = new_filter / name
    path.parent.mkdir(exist_ok=True)
    path.write_text((new_filter / CONFIG_NAME).read_text())

    assert [problem.path for problem in lint_filter(new_filter)] == [name]


@pytest.mark.parametrize("name", ["CHANGELOG.md", "LICENSE.md", "examples/README.md", "notes/why.md"])
def test_further_documents_are_no_problem(new_filter: Path, name: str) -> None:
    path = new_filter / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("words\n")

    assert lint_filter(new_filter) == []


@pytest.mark.parametrize(
    "place", ["topic/3", "topic/V3", "topic/v03", "topic/version3", "topic/v3-draft", "topic/v²", "topic", "a/b/v1"]
)
def test_a_config_that_no_name_leads_to_fails_the_lint_of_all(
    new_filter: Path, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = new_filter.parents[1]
    (root / place).mkdir(parents=True, exist_ok=True)
    (root / place / CONFIG_NAME).write_text((new_filter / CONFIG_NAME).read_text())

    assert main(["lint"]) == 2
    assert f"{root / place / CONFIG_NAME}: a config that no name leads to" in capsys.readouterr().out
    assert new_filter in all_filters()


def test_a_config_of_another_name_fails_the_lint_of_all(new_filter: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (new_filter / CONFIG_NAME).rename(new_filter / "config.yml")

    assert (main(["lint"]), main(["lint", "--filter", str(new_filter)])) == (2, 2)
    captured = capsys.readouterr()
    assert f"{new_filter / 'config.yml'}: a config that no name leads to" in captured.out
    assert "a folder with config.yml and no config.yaml" in captured.err
