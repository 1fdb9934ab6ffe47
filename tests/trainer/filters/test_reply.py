"""The oracle's reply: what the schema allows is read, anything else is refused, and flags cap by arithmetic of ours."""

import json
from itertools import product
from typing import Any

import pytest

from distillery_runtime.spec.model import FilterSpec
from distillery_trainer.filters.overrides import apply_overrides
from distillery_trainer.filters.prompt import reply_schema
from distillery_trainer.filters.reply import ParsedReply, ReplyError, applied, parse_reply

FLAGS = [
    {"name": "advertisement", "question": "It sells.", "caps": {"evidence_quality": 2.0}},
    {
        "name": "in_passing",
        "question": "It is about something else.",
        "caps": {"relevance": 3.0, "evidence_quality": 5.0},
    },
]
GOOD = {"advertisement": False, "in_passing": True, "relevance": 7.5, "evidence_quality": 4}


@pytest.fixture
def flagged(spec: FilterSpec) -> FilterSpec:
    return apply_overrides(spec, {"flags": FLAGS})


def test_scores_come_in_the_order_of_the_spec_with_the_flags_that_were_raised(flagged: FilterSpec) -> None:
    assert parse_reply(json.dumps(dict(reversed(GOOD.items()))), flagged) == ParsedReply(
        (7.5, 4.0), frozenset({"in_passing"})
    )


@pytest.mark.parametrize(
    ("raised", "expected"),
    [([], (9.0, 9.0)), (["advertisement"], (9.0, 2.0)), (["in_passing"], (3.0, 5.0)),
     (["advertisement", "in_passing"], (3.0, 2.0))],
)  # fmt: skip
def test_of_several_flags_the_lowest_cap_of_each_dimension_counts(
    flagged: FilterSpec, raised: list[str], expected: tuple[float, ...]
) -> None:
    assert applied(ParsedReply((9.0, 9.0), frozenset(raised)), flagged) == expected


def test_a_cap_raises_nothing(flagged: FilterSpec) -> None:
    assert applied(ParsedReply((1.0, 0.5), frozenset({"in_passing"})), flagged) == (1.0, 0.5)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"advertisement": 0}, "advertisement: 0, expected true or false"),
        ({"advertisement": "false"}, "advertisement: 'false', expected true or false"),
        ({"advertisement": None}, "advertisement: None, expected true or false"),
        ({"relevance": True}, "relevance: True, expected a half point from 0 to 10"),
        ({"relevance": 7.25}, "relevance: 7.25, expected a half point from 0 to 10"),
        ({"relevance": 10.5}, "relevance: 10.5, expected a half point from 0 to 10"),
        ({"tier": "high"}, "missing: none; unknown: tier"),
    ],
)
def test_whatever_is_not_of_the_schema_is_refused_with_the_place(
    flagged: FilterSpec, changes: dict[str, object], reason: str
) -> None:
    with pytest.raises(ReplyError, match=reason):
        parse_reply(json.dumps(GOOD | changes), flagged)


def test_a_flag_left_out_is_missing(flagged: FilterSpec) -> None:
    with pytest.raises(ReplyError, match="missing: in_passing; unknown: none"):
        parse_reply(json.dumps({name: value for name, value in GOOD.items() if name != "in_passing"}), flagged)


def test_every_reply_of_the_schema_is_read(flagged: FilterSpec) -> None:
    schema: Any = reply_schema(flagged)  # Any: nested JSON
    allowed = {"boolean": [False, True], "number": [halves / 2 for halves in range(21)]}

    for values in product(*(allowed[part["type"]] for part in schema["properties"].values())):
        reply = dict(zip(schema["properties"], values, strict=True))
        parsed = parse_reply(json.dumps(reply), flagged)

        assert parsed.scores == (reply["relevance"], reply["evidence_quality"])
        assert parsed.flags == {name for name in flagged.flag_names if reply[name]}


WHOLE = json.dumps(GOOD)
SCORES = ParsedReply((7.5, 4.0), frozenset({"in_passing"}))


@pytest.mark.parametrize("raw", [
    f"\ufeff{WHOLE}", f"\n\t {WHOLE} \n\n", f"```json\n{WHOLE}\n```", f"```JSON\r\n{WHOLE}\r\n```\n",
    f"```\n{WHOLE}\n```", f"```json {WHOLE} ```", f"<think>It is {{5}}.</think>\n\n{WHOLE}", f"<think></think>{WHOLE}",
    f"Let me think. {WHOLE}</think>{WHOLE}", f"<think>\n`x`</think>\n```json\n{WHOLE}\n```", f" \ufeff\n{WHOLE}",
])  # fmt: skip
def test_what_is_known_to_stand_around_a_whole_reply_is_taken_off(flagged: FilterSpec, raw: str) -> None:
    assert parse_reply(raw, flagged) == SCORES


@pytest.mark.parametrize("raw", [
    "", " \n", "\ufeff", f"Here is the JSON: {WHOLE}", f"{WHOLE} I hope that helps.", f"{WHOLE}\n{WHOLE}", f"[{WHOLE}]",
    f"```json\n{WHOLE}", f"```yaml\n{WHOLE}\n```", f"Sure:\n```json\n{WHOLE}\n```", f"```json\n{WHOLE}\n```\nDone.",
    f"```json\n{WHOLE}\n```\n```json\n{WHOLE}\n```", f"<think>{WHOLE}", f"<think>{WHOLE}</think>",
    f"<think>a</think>b</think>{WHOLE}", f"<think><think>a</think>{WHOLE}", f"{WHOLE}<think>a</think>",
    json.dumps(WHOLE), WHOLE[:-1], f"{WHOLE[:-1]},}}", WHOLE.replace("7.5", "+7.5"), WHOLE.replace("7.5", "'7.5'"),
])  # fmt: skip
def test_a_reply_with_anything_else_around_it_is_none(flagged: FilterSpec, raw: str) -> None:
    with pytest.raises(ReplyError):
        parse_reply(raw, flagged)


@pytest.mark.parametrize(("numeral", "reason"), [
    ("1e999", "1e999 is out of a number's range"), ("-12260e327", "-12260e327 is out of a number's range"),
    ("1e308", "relevance: 1e\\+308, expected a half point"), ("9" * 5000, "not JSON|expected a half point"),
    ("NaN", "not JSON: NaN"), ("-Infinity", "not JSON: -Infinity"),
    ("-0.5", "relevance: -0.5"), ("null", "None"),
])  # fmt: skip
def test_a_number_that_no_score_can_be_is_refused_and_shown(flagged: FilterSpec, numeral: str, reason: str) -> None:
    with pytest.raises(ReplyError, match=reason) as caught:
        parse_reply(WHOLE.replace("7.5", numeral), flagged)

    assert len(caught.value.reason) < 400


def test_minus_zero_is_the_score_zero(flagged: FilterSpec) -> None:
    assert str(parse_reply(WHOLE.replace("7.5", "-0.0"), flagged).scores[0]) == "0.0"


@pytest.mark.parametrize(("name", "value"), [("relevance", "2"), ("relevance", "7.5"), ("in_passing", "true")])
def test_a_key_given_twice_is_named(flagged: FilterSpec, name: str, value: str) -> None:
    with pytest.raises(ReplyError, match=f"key '{name}' given twice"):
        parse_reply(f'{WHOLE[:-1]}, "{name}": {value}}}', flagged)


def test_a_hundred_thousand_open_thoughts_are_read_in_linear_time(flagged: FilterSpec) -> None:
    with pytest.raises(ReplyError):
        parse_reply("<think>" * 100_000 + WHOLE, flagged)
