"""`trainer lint`: each seeded fault is found at its place, with the value found and what was expected."""

import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from distillery_runtime.errors import Problem
from distillery_trainer.filters import scaffold
from distillery_trainer.filters.find import all_filters
from distillery_trainer.filters.lint import lint_filter, located
from distillery_trainer.filters.scaffold import init_filter

REMOVED = object()
BANDS = "0-2, 3-4, 5-6, 7-8, 9-10"
FLAG = {"name": "advertisement", "question": "It sells.", "caps": {"evidence_quality": 2.0}}
RULE = {"name": "deals", "where": "title", "words": ["best deals"]}
UNREADABLE = {  # each with a part of the cure, and the line to look at
    "a list that is not closed": (b"version: 1\nname: [topic\n", "closing bracket", 2),
    "a quote that is not closed": (b"name: topic\nsummary: 'it's\nversion: 1\n", "quotes", 2),
    "a quote without end": (b'name: topic\nsummary: "all of it\nversion: 1\n', "a closing quote", 2),
    "bytes that are not UTF-8": (b"version: 1\nname: \xff\n", "save it as UTF-8", 2),
    "UTF-16": ("name: topic\n".encode("utf-16"), "save it as UTF-8", None),
    "UTF-16 without a mark": ("name: topic\n".encode("utf-16-le"), "save it as UTF-8", None),
    "a control character": (b"version: 1\nname: a\x00b\n", "text without it", 2),
    "brackets without end": (b"[" * 1000, "less deep", 1),
    "a tab as indentation": (b"oracle:\n\tmodel: x\n", "spaces", 2),
    "a tab inside a question": (b"name: topic\nsummary: How\tmuch?\n", "spaces", 2),
    "a colon in a text": (b"name: topic\nsummary: In short: all of it\n", "quotes around a text with ': ' in it", 2),
    "text that begins with @": (b"summary: @home\n", "quotes", 1),
    "text that begins with a backtick": (b"version: 1\nsummary: `code`\n", "quotes", 2),
    "text that begins with %": (b"version: 1\nsummary: %d of them\n", "quotes", 2),
    "a line less indented than its list": (b"tiers:\n    - a\n  - b\n", "indentation", 3),
    "aliases of aliases": (
        b"a0: &a0 [x]\n" + b"".join(b"a%d: &a%d [%s]\n" % (i, i, b"*a%d, " % (i - 1) * 9) for i in range(1, 10)),
        "fewer values", None,
    ),
    "aliases of a long text": (b"a: &a " + b"x" * 50_000 + b"\nb: [*a, *a, *a]\n", "fewer values", None),
    "a million levels": (b"- " * 30_000, "less deep", 1),
    "more than a config can be": (b"# " + b"x" * 200_000, "no more", None),
}  # fmt: skip


class Fault(NamedTuple):
    """A way to break a filter's folder, and the problem that it must give."""

    name: str
    break_it: Callable[[Path], None]
    problem: Problem


def config(*path: str | int, to: object) -> Callable[[Path], None]:
    """Sets (or removes) one value of config.yaml."""

    def change(folder: Path) -> None:
        file = folder / "config.yaml"
        data: Any = yaml.safe_load(file.read_text())
        place = data
        for part in path[:-1]:
            place = place[part]
        if to is REMOVED:
            del place[path[-1]]
        else:
            place[path[-1]] = to
        file.write_text(yaml.safe_dump(data, sort_keys=False))

    return change


def prompt(old: str, new: str) -> Callable[[Path], None]:
    """Replaces a part of prompt.md."""
    return lambda folder: (folder / "prompt.md").write_text(scaffold.PROMPT.replace(old, new)) and None


def example(**labels: float) -> Callable[[Path], None]:
    """Puts one labelled example beside the config."""
    return example_with(labels={"relevance": 5, "evidence_quality": 4.5} | labels)


def example_with(**fields: object) -> Callable[[Path], None]:
    """Puts one labelled example with these fields beside the config."""
    record = {"id": "a1", "text": "Some text.", "labels": {"relevance": 5, "evidence_quality": 4.5}} | fields
    return lambda folder: (folder / "examples" / "one.jsonl").write_text(json.dumps(record) + "\n") and None


def file(name: str) -> Callable[[Path], None]:
    """Puts an empty file into the folder."""
    return lambda folder: (folder / name).write_text("") and None


def fault(name: str, break_it: Callable[[Path], None], path: str, found: str, expected: str) -> Fault:
    return Fault(name, break_it, Problem(path, found, expected))


INDEPENDENT = [
    fault("weights that do not sum to 1", config("dimensions", 0, "weight", to=0.5),
          "config.yaml: dimensions[*].weight", "a sum of 0.9", "a sum of 1"),
    fault("an unknown key", config("dimensionss", to=[]),
          "config.yaml: dimensionss", "an unknown key", "only the keys of the format"),
    fault("an unknown key deep inside", config("oracle", "modle", to="x"),
          "config.yaml: oracle.modle", "an unknown key", "only the keys of the format"),
    fault("a missing anchor band", config("dimensions", 1, "anchors", "5-6", to=REMOVED),
          "config.yaml: dimensions[1].anchors", "no 5-6", f"all of {BANDS}"),
    fault("a missing key", config("summary", to=REMOVED),
          "config.yaml: summary", "nothing", "a value (this key is required)"),
    fault("a lowest tier above 0", config("tiers", 2, "min_overall", to=0.5),
          "config.yaml: tiers[2].min_overall", "0.5", "0, so that every overall has a tier"),
    fault("a gatekeeper on an unknown dimension", config("gatekeepers", 0, "dimension", to="evidence"),
          "config.yaml: gatekeepers[0].dimension", "'evidence'", "one of relevance, evidence_quality"),
    fault("a gatekeeper that never fires", config("gatekeepers", 0, "below", to=0),
          "config.yaml: gatekeepers[0].below", "0", "more than 0 (no score is below it)"),
    fault("a rule without words", config("prefilter", to=[{"name": "deals"}]),
          "config.yaml: prefilter[0]", "neither words nor patterns", "at least one of them"),
    fault("a version unlike the folder's", config("version", to=2),
          "config.yaml: version", "2", "1, as its folder v1"),
    fault("a name unlike the folder's", config("name", to="topics"),
          "config.yaml: name", "'topics'", "'topic', as its folder"),
    fault("a window larger than any model's", config("student", to={"window": {"max_tokens": 40000}}),
          "config.yaml: student.window.max_tokens", "40000", "less than or equal to 32768"),
    fault("a prompt without its dimensions", prompt("{{dimensions}}", ""),
          "prompt.md: {{dimensions}}", "0 times", "exactly once"),
    fault("a Python file", file("postfilter.py"),
          "postfilter.py", "a file that is no data", "only .json, .jsonl, .md, .yaml"),
    fault("a Python file among the examples", file("examples/clean.py"),
          "examples/clean.py", "a file that is no data", "only .json, .jsonl, .md, .yaml"),
    fault("no README", lambda folder: (folder / "README.md").unlink(),
          "README.md", "no such file", "a file of this name"),
]  # fmt: skip

FAULTS = [
    *INDEPENDENT,
    fault("a flag that the prompt does not ask for", config("flags", to=[FLAG]),
          "prompt.md: {{flags}}", "0 times",
          "exactly once: the config has flags, about which the oracle is asked there"),
    fault("a flag that the schema cannot hold", prompt("Reply with", "Set is_sponsored. Reply with"),
          "prompt.md: is_sponsored", "a name that no reply can hold",
          "a dimension or flag: relevance, evidence_quality"),
    fault("a flag that caps an unknown dimension", config("flags", to=[FLAG | {"caps": {"evidence": 2.0}}]),
          "config.yaml: flags[0].caps", "'evidence'", "one of relevance, evidence_quality"),
    fault("a flag that caps nothing", config("flags", to=[FLAG | {"caps": {}}]),
          "config.yaml: flags[0].caps", "{}", "Dictionary should have at least 1 item after validation, not 0"),
    fault("a flag named as a dimension", config("flags", to=[FLAG | {"name": "relevance"}]),
          "config.yaml: flags[0].name", "'relevance'", "a name that no dimension has: a reply holds both"),
    fault("a negative weight", config("dimensions", 0, "weight", to=-0.1),
          "config.yaml: dimensions[0].weight", "-0.1", "greater than 0"),
    fault("a weight that is no number", config("dimensions", 0, "weight", to=float("nan")),
          "config.yaml: dimensions[0].weight", "nan", "a finite number"),
    fault("a weight in quotes", config("dimensions", 0, "weight", to="0.6"),
          "config.yaml: dimensions[0].weight", "'0.6'", "a number: write 0.6 without quotes"),
    fault("a cap at the tier it is to keep from", config("gatekeepers", 0, "overall_cap", to=4.0),
          "config.yaml: gatekeepers[0].overall_cap", "4.0",
          "less than 4.0, where the tier medium begins (a higher cap demotes nothing)"),
    fault("tiers out of order", config("tiers", 0, "min_overall", to=3.0),
          "config.yaml: tiers[1].min_overall", "4.0", "less than 3.0, highest tier first"),
    fault("an operating tier that is the lowest", config("operating_tier", to="low"),
          "config.yaml: operating_tier", "'low'", "one of high, medium (not the lowest)"),
    fault("an unknown operating tier", config("operating_tier", to="midium"),
          "config.yaml: operating_tier", "'midium'", "one of high, medium (not the lowest)"),
    fault("a dimension given twice", config("dimensions", 1, "name", to="relevance"),
          "config.yaml: dimensions[1].name", "'relevance'", "a name not used before"),
    fault("an unknown anchor band", config("dimensions", 0, "anchors", "5-7", to="Some."),
          "config.yaml: dimensions[0].anchors.5-7.[key]", "'5-7'", "'0-2', '3-4', '5-6', '7-8' or '9-10'"),
    fault("a phrase with '*' inside", config("prefilter", to=[RULE | {"words": ["so*r"]}]),
          "config.yaml: prefilter[0].words[0]", "'so*r'",
          "a phrase with single spaces between words, '*' only as its last character"),
    fault("two rules of one name", config("prefilter", to=[RULE, RULE]),
          "config.yaml: prefilter[1].name", "'deals'", "a name not used before"),
    fault("an unknown backend", config("student", to={"backend": "linear"}),
          "config.yaml: student.backend", "'linear'", "'auto', 'decoder', 'encoder', 'frozen' or 'static'"),
    fault("a config that is a list", lambda folder: (folder / "config.yaml").write_text("- name\n") and None,
          "config.yaml: (top)", "list", "a mapping"),
    fault("a prompt with a placeholder twice", prompt("{{dimensions}}", "{{dimensions}} {{dimensions}}"),
          "prompt.md: {{dimensions}}", "2 times", "exactly once"),
    fault("a prompt with an unknown placeholder", prompt("{{summary}}", "{{summary}} {{article}}"),
          "prompt.md: {{article}}", "unknown", "one of summary, dimensions, reply_schema"),
    fault("a flag that is asked for and not there", prompt("{{dimensions}}", "{{flags}} {{dimensions}}"),
          "prompt.md: {{flags}}", "unknown", "nothing here: the config has no flags"),
    fault("a cap of 10, which caps nothing", config("flags", to=[FLAG | {"caps": {"relevance": 10}}]),
          "config.yaml: flags[0].caps.relevance", "10", "less than 10"),
    fault("two flags of one name", config("flags", to=[FLAG, FLAG]),
          "config.yaml: flags[1].name", "'advertisement'", "a name not used before"),
    fault("a label that is no half point", example(relevance=5.25),
          "examples/one.jsonl: a1.labels.relevance", "5.25", "a half point"),
]  # fmt: skip


@pytest.mark.parametrize("seeded", FAULTS, ids=lambda seeded: seeded.name)
def test_a_seeded_fault_is_found_at_its_place_with_value_and_expectation(new_filter: Path, seeded: Fault) -> None:
    seeded.break_it(new_filter)

    found = lint_filter(new_filter)

    assert seeded.problem in found


@pytest.mark.parametrize("seeded", INDEPENDENT, ids=lambda seeded: seeded.name)
def test_one_fault_gives_one_problem(new_filter: Path, seeded: Fault) -> None:
    seeded.break_it(new_filter)

    found = lint_filter(new_filter)

    assert found == [seeded.problem]


@settings(max_examples=10, phases=[Phase.generate])
@given(st.lists(st.sampled_from(INDEPENDENT), min_size=2, max_size=8, unique_by=lambda seeded: seeded.name))
def test_several_faults_at_once_are_all_listed(seeded: list[Fault]) -> None:
    with tempfile.TemporaryDirectory() as root, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILLERY_FILTERS", root)
        folder = init_filter("topic")
        for one in seeded:
            one.break_it(folder)

        found = lint_filter(folder)

    assert {one.problem for one in seeded} == set(found)


def test_a_pattern_that_re2_does_not_take_is_found_with_the_reason(new_filter: Path) -> None:
    config("prefilter", to=[RULE | {"patterns": ["solar", "(?<=a)b"]}])(new_filter)

    (found,) = lint_filter(new_filter)

    assert (found.path, found.found) == ("config.yaml: prefilter[0].patterns[1]", "'(?<=a)b'")
    assert re.match(r"a pattern that RE2 accepts \(.*invalid perl operator", found.expected)


def test_an_example_with_an_unknown_dimension_is_found_by_file_and_article(new_filter: Path) -> None:
    example(readiness=3)(new_filter)

    found = lint_filter(new_filter)

    where = f"{new_filter / 'examples' / 'one.jsonl'}: article 1.labels.readiness"
    assert found == [Problem(where, "an unknown dimension", "only the filter's own")]


def test_an_example_with_a_flag_that_the_filter_does_not_have_is_found(new_filter: Path) -> None:
    example_with(flags=["advertisement"])(new_filter)

    (found,) = lint_filter(new_filter)

    assert found.path.endswith("one.jsonl: article 1.flags")
    assert (found.found, found.expected) == ("'advertisement'", "one of none: the filter has no flags")


def test_an_example_above_the_cap_of_its_flag_is_found_unless_its_labels_are_a_mean(new_filter: Path) -> None:
    config("flags", to=[FLAG])(new_filter)
    prompt("{{dimensions}}", "{{flags}} {{dimensions}}")(new_filter)
    example_with(flags=["advertisement"])(new_filter)

    (found,) = lint_filter(new_filter)
    example_with(flags=["advertisement"], repeats=[{"relevance": 5, "evidence_quality": e} for e in (2, 7)])(new_filter)
    none = lint_filter(new_filter)

    assert found == Problem("examples/one.jsonl: a1.labels.evidence_quality", "4.5", "at most 2, under advertisement")
    assert none == []


@pytest.mark.parametrize(
    "other",
    [
        config("summary", to=REMOVED),
        config("oracle", "modle", to="x"),
        config("dimensions", 0, "weight", to="0.6"),
        config("tiers", 2, "min_overall", to=0.5),
        prompt("{{dimensions}}", ""),
        file("postfilter.py"),
        lambda folder: (folder / "examples" / "two.jsonl").write_text('{"id": "b"}\nno json\n') and None,
        lambda folder: (folder / "config.yaml").write_text(
            (folder / "config.yaml").read_text().replace("name: topic", "name: no")
        ) and None,
    ],
)  # fmt: skip
def test_faults_of_examples_are_listed_beside_any_other(new_filter: Path, other: Callable[[Path], None]) -> None:
    example(relevance=5.25, readiness=3)(new_filter)
    other(new_filter)

    found = lint_filter(new_filter)

    assert Problem("examples/one.jsonl: a1.labels.relevance", "5.25", "a half point") in found
    assert any(p.path.endswith("article 1.labels.readiness") and p.found == "an unknown dimension" for p in found)
    assert len(found) > 2


def test_half_points_are_checked_where_not_even_the_names_can_be_read(new_filter: Path) -> None:
    config("dimensions", 0, "name", to="Relevance")(new_filter)
    example(relevance=5.25)(new_filter)

    assert Problem("examples/one.jsonl: a1.labels.relevance", "5.25", "a half point") in lint_filter(new_filter)


def test_names_in_the_prompt_are_checked_beside_a_broken_config(new_filter: Path) -> None:
    config("summary", to=REMOVED)(new_filter)
    prompt("Reply with", "Set is_sponsored.\nReply with {flag}, {{ flag }}, {summary}, {{{dimensions}}}")(new_filter)

    found = {problem.path: problem.line for problem in lint_filter(new_filter)}

    line = scaffold.PROMPT[: scaffold.PROMPT.index("Reply with")].count("\n") + 1
    assert found["prompt.md: is_sponsored"] == line
    assert found["prompt.md: {{flag}}"] == found["prompt.md: {summary}"] == line + 1


def test_half_points_are_no_problem(new_filter: Path) -> None:
    example(relevance=0.5, evidence_quality=10)(new_filter)

    assert lint_filter(new_filter) == []


@pytest.mark.parametrize(("content", "cure", "line"), UNREADABLE.values(), ids=UNREADABLE)
def test_a_config_that_cannot_be_read_is_one_problem_with_line_and_cure(
    new_filter: Path, content: bytes, cure: str, line: int | None
) -> None:
    (new_filter / "config.yaml").write_bytes(content)

    (found,) = lint_filter(new_filter)

    assert (found.path, found.line) == ("config.yaml", line)
    assert cure in found.expected
    assert len(located(found)) < 300


def test_a_key_given_twice_is_named_with_both_lines(new_filter: Path) -> None:
    text = (new_filter / "config.yaml").read_text().replace("weight: 0.6", "weight: 0.6\n    weight: 0.5")
    (new_filter / "config.yaml").write_text(f"{text}version: 2\n")
    lines = (new_filter / "config.yaml").read_text().splitlines()

    found = lint_filter(new_filter)

    first, last = lines.index("    weight: 0.5"), len(lines)
    assert [(p.path, p.found, p.line) for p in found] == [
        ("config.yaml: dimensions[0].weight", f"a key given twice (first in line {first})", first + 1),
        ("config.yaml: version", f"a key given twice (first in line {lines.index('version: 1') + 1})", last),
    ]


def test_a_broken_config_does_not_hide_what_is_wrong_with_the_other_files(new_filter: Path) -> None:
    (new_filter / "config.yaml").write_text("name: [topic\n")
    (new_filter / "postfilter.py").write_text("")

    found = lint_filter(new_filter)

    assert [problem.path for problem in found] == ["config.yaml", "postfilter.py"]


def test_a_prompt_that_is_not_utf_8_is_a_problem(new_filter: Path) -> None:
    (new_filter / "prompt.md").write_bytes(b"\xff{{summary}}")

    found = lint_filter(new_filter)

    assert found[0].path.startswith("prompt.md")


def test_a_folder_outside_the_filters_need_not_be_named_by_name_and_version(new_filter: Path, tmp_path: Path) -> None:
    elsewhere = new_filter.rename(tmp_path / "draft")

    assert lint_filter(elsewhere) == []


def test_the_filters_of_the_repository_have_no_problem(shipped_filter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTILLERY_FILTERS", str(shipped_filter.parents[1]))

    problems = {str(folder): lint_filter(folder) for folder in all_filters()}

    assert problems
    assert not any(problems.values()), problems
