"""`trainer init`: a new filter's folder."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distillery_runtime.errors import InputError
from distillery_trainer.filters import load_filter
from distillery_trainer.lint import lint_filter
from distillery_trainer.prompt import render_prompt
from distillery_trainer.scaffold import init_filter


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
