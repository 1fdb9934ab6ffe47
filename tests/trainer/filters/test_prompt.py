"""The oracle's prompt, rendered from template and spec."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillery_runtime.errors import InputError
from distillery_runtime.spec.model import FilterSpec
from distillery_trainer.filters.overrides import apply_overrides
from distillery_trainer.filters.prompt import PLACEHOLDERS, check_placeholders, render_prompt, reply_schema

TEMPLATE = "About {{summary}}\n\n{{dimensions}}\n\n{{reply_schema}}"


def test_the_prompt_holds_every_name_question_and_anchor(spec: FilterSpec) -> None:
    prompt = render_prompt(TEMPLATE, spec)

    for dimension in spec.dimensions:
        assert all(part in prompt for part in (dimension.name, dimension.question, *dimension.anchors.values()))


def test_the_bands_of_a_dimension_stand_in_ascending_order(spec: FilterSpec) -> None:
    prompt = render_prompt(TEMPLATE, spec)

    places = [prompt.index(f"| {band} |") for band in ("0-2", "3-4", "5-6", "7-8", "9-10")]
    assert places == sorted(places)


def test_the_prompt_ends_in_the_schema_of_the_reply(spec: FilterSpec) -> None:
    prompt = render_prompt(TEMPLATE, spec)

    assert json.loads(prompt[prompt.index("{") :]) == reply_schema(spec)


def test_the_schema_asks_for_each_dimension_in_half_points_and_for_nothing_else(spec: FilterSpec) -> None:
    schema = reply_schema(spec)

    assert schema["required"] == ["relevance", "evidence_quality"]
    assert schema["additionalProperties"] is False
    score = {"type": "number", "minimum": 0, "maximum": 10, "multipleOf": 0.5}
    assert schema["properties"] == {"relevance": score, "evidence_quality": score}


FLAGGED = {
    "flags": [
        {"name": "advertisement", "question": "The article sells something.", "caps": {"evidence_quality": 2.0}},
        {"name": "in_passing", "question": "The topic is not what it is about.", "caps": {"relevance": 3.0}},
    ]
}


def test_flags_stand_where_the_template_says_and_come_first_in_the_reply(spec: FilterSpec) -> None:
    flagged = apply_overrides(spec, FLAGGED)

    prompt, schema = render_prompt(f"{{{{flags}}}}\n{TEMPLATE}", flagged), reply_schema(flagged)

    assert prompt.startswith(
        "| flag | true when |\n|---|---|\n| advertisement | The article sells something. |\n| in_pas"
    )
    assert list(schema["properties"]) == schema["required"]
    assert schema["required"] == ["advertisement", "in_passing", "relevance", "evidence_quality"]
    assert schema["properties"]["advertisement"] == {"type": "boolean"}


def test_a_filter_with_flags_must_ask_for_them_and_one_without_must_not(spec: FilterSpec) -> None:
    with pytest.raises(InputError, match=r"\{\{flags\}\}: 0 times, expected exactly once"):
        render_prompt(TEMPLATE, apply_overrides(spec, FLAGGED))
    with pytest.raises(InputError, match=r"\{\{flags\}\}: unknown"):
        render_prompt(f"{TEMPLATE} {{{{flags}}}}", spec)


def test_prose_that_names_what_no_reply_can_hold_is_refused(spec: FilterSpec) -> None:
    with pytest.raises(
        InputError, match=r"is_sponsored: a name that no reply can hold, expected a dimension or flag: rel"
    ):
        render_prompt(f"{TEMPLATE} Say is_sponsored if evidence_quality was bought.", spec)


def test_a_summary_that_spells_a_placeholder_stays_as_it_is(spec: FilterSpec) -> None:
    tricky = apply_overrides(spec, {"summary": "{{reply_schema}}"})

    assert render_prompt(TEMPLATE, tricky).startswith("About {{reply_schema}}\n")


@settings(max_examples=25)
@given(st.lists(st.sampled_from([*PLACEHOLDERS, "article"]), max_size=6))
def test_a_template_is_accepted_only_with_each_placeholder_exactly_once(used: list[str]) -> None:
    template = "\n".join(f"{{{{{name}}}}}" for name in used)

    assert (check_placeholders(template, has_flags=False) == []) == (sorted(used) == sorted(PLACEHOLDERS))


def test_a_template_with_faults_is_refused_with_all_of_them(spec: FilterSpec) -> None:
    with pytest.raises(InputError) as error:
        render_prompt("{{summary}} {{summary}} {{article}}", spec, "filters/topic/v1/prompt.md")

    assert str(error.value).splitlines() == [
        "filters/topic/v1/prompt.md: {{summary}}: 2 times, expected exactly once",
        "filters/topic/v1/prompt.md: {{dimensions}}: 0 times, expected exactly once",
        "filters/topic/v1/prompt.md: {{reply_schema}}: 0 times, expected exactly once",
        "filters/topic/v1/prompt.md:1: {{article}}: unknown, expected one of summary, dimensions, reply_schema",
    ]


@pytest.mark.parametrize("spelling", ["{{ summary }}", "{{summary }}", "{{\nsummary\n}}"])
def test_a_template_that_passes_the_check_is_rendered_without_a_placeholder_left(
    spec: FilterSpec, spelling: str
) -> None:
    template = TEMPLATE.replace("{{summary}}", spelling)

    if not check_placeholders(template, has_flags=False):
        assert spec.summary in render_prompt(template, spec)
