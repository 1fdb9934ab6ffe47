"""Strict YAML: what a config writes is what is read, or a problem that says how to write it."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from distillery_runtime.errors import InputError, SpecError
from distillery_runtime.spec.model import FilterSpec
from distillery_runtime.spec.reading import find_problems
from distillery_trainer.filters.find import load_filter
from distillery_trainer.filters.lint import lint_filter, located
from distillery_trainer.filters.overrides import apply_overrides, read_settings
from distillery_trainer.filters.yaml_text import read_yaml

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x85\u2028\u2029"), max_size=12)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**16), 10**16)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
INDICATORS = st.text("ab1:- ,[]{}\n#&*!|>'\"%@`?~<=.0e\t", max_size=30)
ORACLE = "oracle:\n  model: gemini-2.5-flash\n"

# What replaces the oracle's section, at which path it is a problem, what the message quotes, and the cure.
WINDOW = f"{ORACLE}student: {{window: {{max_tokens: %s}}}}\n"
MAX_TOKENS = "student.window.max_tokens"
MEANT = {
    "an exponent without a point": (
        f"{ORACLE}student: {{encoder: {{training: {{learning_rate: 1e-3}}}}}}\n",
        "student.encoder.training.learning_rate", "'1e-3'", "1.0e-3",
    ),
    "an exponent without a sign": (
        f"{ORACLE}student: {{encoder: {{training: {{learning_rate: 1.5e3}}}}}}\n",
        "student.encoder.training.learning_rate", "'1.5e3'", "1.5e+3",
    ),
    "a decimal comma": (f"{ORACLE}cascade:\n  confidence: 0,9\n", "cascade.confidence", "'0,9'", "0.9"),
    "a number in quotes": (f'{ORACLE}cascade:\n  confidence: "0.9"\n', "cascade.confidence", "'0.9'", "without quotes"),
    "a whole number with a point": (
        WINDOW % "256.0", MAX_TOKENS, "256.0", "256",
    ),
    "no in a list of languages": (f"{ORACLE}card: {{language: [nl, no]}}\n", "card.language[1]", "no", '"no"'),
    "off as a text": ("oracle:\n  model: off\n", "oracle.model", "off", '"off"'),
    "a number as a text": ("oracle:\n  model: 2.5\n", "oracle.model", "2.5", '"2.5"'),
    "a date as a text": ("oracle:\n  model: 2024-06-01\n", "oracle.model", "2024-06-01", '"2024-06-01"'),
    "a time as a text": ("oracle:\n  model: 12:30\n", "oracle.model", "12:30", '"12:30"'),
    "nothing as a text": ("oracle:\n  model:\n", "oracle.model", "nothing", "text"),
    "a tilde as a text": ("oracle:\n  model: ~\n", "oracle.model", "nothing", "text"),
    "an octal number": (WINDOW % "0512", MAX_TOKENS, "0512", "decimal"),
    "a hexadecimal number": (WINDOW % "0x80", MAX_TOKENS, "0x80", "decimal"),
    "a number with underscores": (WINDOW % "1_024", MAX_TOKENS, "1_024", "decimal"),
    "a number of 5000 digits": (WINDOW % f"1{'0' * 5000}", MAX_TOKENS, "000", "digits"),
    "an infinite number": (f"{ORACLE}targets: {{mae: .inf}}\n", "targets.mae", "inf", "a finite number"),
    "yes in quotes": (f'{ORACLE}text:\n  strip_markup: "yes"\n', "text.strip_markup", "'yes'", "true or false"),
    "a text for a list": (f"{ORACLE}card:\n  language: nl\n", "card.language", "'nl'", "a list"),
    "a list for a text": ("oracle:\n  model: [gemini]\n", "oracle.model", "['gemini']", "text"),
    "a key that is no text": (f"{ORACLE}no: 1\n", "no", "false", '"no"'),
    "a mapping as a key": ("oracle:\n  model: {{summary}}\n", "oracle.model", "a mapping as a key", "quotes"),
    "a list as a key": (f"{ORACLE}? [a, b]\n: 1\n", "(top)", "a list as a key", "text"),
    "a merge key": ("oracle:\n  model: x\n  <<: {a: b}\n", "oracle.<<", "a merge key", "written out"),
    "an alias without an anchor": ("oracle:\n  model: *gemini\n", "oracle.model", "*gemini", '"*gemini"'),
    "an alias of itself": ("oracle: &a\n  model: *a\n", "oracle.model", "*a", "quotes"),
    "an anchor for nothing": ("oracle:\n  model: &gemini flash\n", "oracle.model", "&gemini", "quotes"),
    "an anchor given twice": (
        "oracle: {model: &a x}\ncard: {license: *a, language: [&a nl, *a]}\n", "card.language[0]", "&a", "another name",
    ),
    "a tag": ("oracle:\n  model: !gemini flash\n", "oracle.model", "!gemini", "quotes"),
    "a lone exclamation mark": ("oracle:\n  model: ! flash\n", "oracle.model", "the tag !", "quotes"),
    "a tag that runs code": (
        "oracle:\n  model: !!python/object/apply:os.getcwd []\n", "oracle.model", "python", "no tag",
    ),
    "a set": (f"{ORACLE}prefilter_unless: !!set {{? aid}}\n", "prefilter_unless", "!!set", "no tag"),
    "bytes": ("oracle:\n  model: !!binary R0lG\n", "oracle.model", "!!binary", "no tag"),
    "a second document": (f"{ORACLE}---\nname: other\n", "(top)", "a second document", "one document"),
    "an unknown key": (f"{ORACLE}  modle: x\n", "oracle.modle", "an unknown key", "only the keys"),
}  # fmt: skip


def write_config(folder: Path, rest: str) -> int:
    """Writes a config whose oracle section, and what follows it, is `rest`; gives the line where that begins."""
    text = (folder / "config.yaml").read_text().partition("oracle:")[0]
    (folder / "config.yaml").write_text(text + rest)
    return text.count("\n") + 1


@pytest.mark.parametrize(("rest", "path", "quoted", "cure"), MEANT.values(), ids=MEANT)
def test_what_yaml_reads_otherwise_is_named_with_its_line_and_the_way_to_write_it(
    new_filter: Path, rest: str, path: str, quoted: str, cure: str
) -> None:
    begin = write_config(new_filter, rest)

    (found,) = [problem for problem in lint_filter(new_filter) if problem.path == f"config.yaml: {path}"]

    assert quoted in found.found
    assert cure in found.expected
    assert begin <= (found.line or 0) < begin + rest.count("\n")
    assert located(found).startswith(f"config.yaml:{found.line}: {path}: ")


def test_all_of_them_at_once_hide_nothing(new_filter: Path) -> None:
    text = (new_filter / "config.yaml").read_text()
    text = (
        text.replace("weight: 0.6", "weight: 0,6")
        .replace("summary: ", "summary: &x ")
        .replace("operating_tier: medium", "operating_tier: off")
    )
    (new_filter / "config.yaml").write_text(
        f"{text}prefilter: [{{name: no, words: [2024-01-01, sale]}}]\nextra: 1:30\n"
    )

    found = {problem.path.removeprefix("config.yaml: ") for problem in lint_filter(new_filter)}

    assert found >= {
        "dimensions[0].weight", "summary", "operating_tier", "prefilter[0].name", "prefilter[0].words[0]", "extra"
    }  # fmt: skip


def test_data_that_json_cannot_hold_hides_no_other_problem_and_is_named(spec: FilterSpec) -> None:
    data: Any = spec.model_dump(mode="json")  # Any: nested JSON
    data["prefilter"] = [{"name": "Sale", "words": [b"sale", "so*r"]}]
    data[7] = "seven"

    paths = [problem.path for problem in find_problems(data)]

    assert set(paths) == {"prefilter[0].words[0]", "7", "prefilter[0].name", "prefilter[0].words[1]"}
    assert len(paths) == 4


def test_the_command_reads_settings_as_the_config_and_says_how_to_write_them(spec: FilterSpec) -> None:
    values, written = read_settings(["student.encoder.training.learning_rate=1e-3", "card.language=[nl, no]"])

    with pytest.raises(SpecError) as error:
        apply_overrides(spec, values, written)

    assert {(p.path, p.expected) for p in error.value.problems} == {
        ("card.language[1]", 'text in quotes: "no"'),
        ("student.encoder.training.learning_rate", "a number: write 1.0e-3"),
    }


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("card.license", "no '='"),
        ("summary=In short: all: of it", "quotes around a text with ': ' in it"),
        ("summary=[a", "closing bracket"),
        ("card.language=" + "[" * 1000, "less deep"),
        ("card.language=&a [*a, *a]", "quotes"),
        ("summary=!!python/name:os.getcwd", "no tag"),
        ("operating_tier=2024-01-01", "a date"),
        ("operating_tier==", "a default value"),
        ("summary=All about #wind", "#wind after the text, which YAML reads as a comment"),
    ],
)
def test_a_setting_that_cannot_be_read_is_named_with_its_cure(setting: str, problem: str) -> None:
    with pytest.raises(InputError) as error:
        read_settings([setting, "a=1", "a=2"])

    assert str(error.value).startswith("--set: ")
    assert problem in str(error.value).replace("\n", " ")
    assert "a: a key given twice" in str(error.value)


@given(JSON)
def test_what_pyyaml_writes_is_read_back_without_a_problem(data: object) -> None:
    document = read_yaml(yaml.safe_dump(data, allow_unicode=True))

    assert (document.data, document.problems) == (data, ())


@given(INDICATORS)
def test_any_text_is_read_as_pyyaml_reads_it_or_is_a_problem(text: str) -> None:
    try:
        document = read_yaml(text)
    except InputError:
        return

    json.dumps(document.data)
    if not document.problems:
        assert _same(document.data, yaml.safe_load(text))


def _same(one: object, other: object) -> bool:
    return one == other or (
        isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other)
    )


def test_a_mark_before_the_text_is_no_part_of_it() -> None:
    assert read_yaml(b"\xef\xbb\xbfname: topic\r\nversion: 1\r\n").data == {"name": "topic", "version": 1}


def test_an_alias_stands_for_what_it_names() -> None:
    assert read_yaml("a: &x [1, {b: c}]\nd: *x\n").data == {"a": [1, {"b": "c"}], "d": [1, {"b": "c"}]}


def test_loading_names_the_line_too(new_filter: Path) -> None:
    line = write_config(new_filter, "oracle:\n  model: off\n") + 1

    with pytest.raises(SpecError, match=rf"config\.yaml:{line}: oracle\.model: off, which YAML reads as false"):
        load_filter(new_filter)
