"""`trainer init`: a new filter's folder."""

import itertools
import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distillery_runtime.errors import InputError
from distillery_runtime.spec.model import FilterSpec
from distillery_trainer.filters.find import all_filters, load_filter, stray_configs
from distillery_trainer.filters.lint import lint_filter
from distillery_trainer.filters.prompt import render_prompt
from distillery_trainer.filters.scaffold import CONFIG, init_filter


def test_a_new_filter_passes_the_lint(new_filter: Path) -> None:
    assert lint_filter(new_filter) == []


def test_a_new_filter_is_version_1_of_its_name(filters_root: Path) -> None:
    folder = init_filter("water_reuse")

    assert folder == filters_root / "water_reuse" / "v1"
    assert load_filter(folder).label == "water_reuse-1"


def test_a_new_filters_prompt_can_be_rendered(new_filter: Path) -> None:
    prompt = render_prompt((new_filter / "prompt.md").read_text(), load_filter(new_filter))

    assert "{{" not in prompt


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text("aZ0_-./ é\n", max_size=8).filter(lambda name: not name.isidentifier() or not name.isascii()))
def test_a_name_that_is_no_lower_case_identifier_is_refused(filters_root: Path, name: str) -> None:
    with pytest.raises(InputError, match="lower case letters, digits and _"):
        init_filter(name)


def test_a_refused_name_leaves_nothing_behind(filters_root: Path) -> None:
    with pytest.raises(InputError):
        init_filter("../outside")

    assert not filters_root.parent.joinpath("outside").exists()
    assert not filters_root.exists()


def test_a_filter_that_is_there_is_left_as_it_is(new_filter: Path) -> None:
    (new_filter / "config.yaml").write_text("mine")

    with pytest.raises(InputError, match="there already"):
        init_filter("topic")
    assert (new_filter / "config.yaml").read_text() == "mine"


def commented(text: str) -> list[list[int]]:
    """The blocks of settings that are commented out: the places of the lines that begin with `#` and no prose."""
    blocks: list[list[int]] = []
    for place, line in enumerate(text.splitlines()):
        if not re.match(r"#(  )*(- )?[a-z{]", line):
            continue
        is_next = bool(blocks) and blocks[-1][-1] == place - 1
        if is_next and line.startswith("#  "):
            blocks[-1].append(place)
        else:
            blocks.append([place])
    return blocks


def uncomment(folder: Path, places: list[int]) -> None:
    config = folder / "config.yaml"
    lines = config.read_text().splitlines()
    config.write_text("\n".join(line[1:] if place in places else line for place, line in enumerate(lines)) + "\n")
    if any(lines[place] == "#flags:" for place in places):
        prompt = folder / "prompt.md"
        prompt.write_text(prompt.read_text().replace("{{dimensions}}", "{{flags}}\n\n{{dimensions}}"))


COMMENTED = commented(CONFIG)


@pytest.mark.parametrize(
    "places", [*COMMENTED, list(itertools.chain(*COMMENTED))], ids=lambda places: CONFIG.splitlines()[places[0]]
)
def test_what_is_commented_out_is_valid_and_counts_when_it_is_not(new_filter: Path, places: list[int]) -> None:
    before = load_filter(new_filter).model_dump()

    uncomment(new_filter, places)

    assert lint_filter(new_filter) == []
    given = yaml.safe_load((new_filter / "config.yaml").read_text())
    assert load_filter(new_filter).model_dump() != before or set(given["student"]) > {
        "backend"
    }  # defaults, written out


def test_flags_and_a_prefilter_are_among_what_is_commented_out() -> None:
    assert {CONFIG.splitlines()[places[0]] for places in COMMENTED} >= {"#flags:", "#prefilter:", "#card:"}


def test_flags_without_their_line_in_the_prompt_are_explained(new_filter: Path) -> None:
    prompt = (new_filter / "prompt.md").read_text()
    uncomment(new_filter, next(places for places in COMMENTED if CONFIG.splitlines()[places[0]] == "#flags:"))
    (new_filter / "prompt.md").write_text(prompt)

    (found,) = lint_filter(new_filter)

    assert (found.path, found.found) == ("prompt.md: {{flags}}", "0 times")
    assert "the config has flags" in found.expected


def test_the_schema_that_a_new_config_names_is_there_and_is_this_versions(new_filter: Path) -> None:
    first = (new_filter / "config.yaml").read_text().splitlines()[0]

    named = new_filter / first.removeprefix("# yaml-language-server: $schema=")

    assert json.loads(named.read_text()) == FilterSpec.model_json_schema()


def test_the_schema_is_no_filter_and_no_config(new_filter: Path) -> None:
    assert (all_filters(), stray_configs()) == ([new_filter], [])


def test_a_new_filter_fits_without_torch_or_a_download_and_has_targets(new_filter: Path) -> None:
    found = load_filter(new_filter)

    assert (found.student.backend, found.cascade.probe.embedder) == ("static", "static")
    assert found.targets.mae is not None
    assert found.targets.recall_operating is not None


def test_what_needs_an_accepted_licence_says_so(new_filter: Path) -> None:
    text = (new_filter / "config.yaml").read_text()

    assert "HF_TOKEN" in text.partition("google/gemma")[2].partition("student:")[0]
