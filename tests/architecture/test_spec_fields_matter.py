"""Every field of a filter's config does something: changed to another valid value, it changes what the code does.

Each leaf of the shipped filter is a test of its own. What is compared is behaviour, never the spec's own dump: prompts,
verdicts, blocked articles, composed texts, certificates, reports, gates, bundles, and the answers of students and
probes that the pipeline's own stages fit on a few articles. A new field fails here until something is seen to depend
on it. `make test` tries the first leaf of each rule, and each training setting in one of the two places that share its
code; `make test-all` tries every leaf.
"""

import fnmatch
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from distillery_runtime.errors import SpecError
from distillery_runtime.spec.model import FilterSpec
from distillery_runtime.spec.reading import parse_spec
from distillery_trainer.filters.find import load_filter
from distillery_trainer.filters.overrides import apply_overrides

FILTER = Path(__file__).parents[2] / "filters" / "sustainability_technology" / "v3"
SPEC = apply_overrides(load_filter(FILTER), {"student.backend": "decoder"})
BASE: dict[str, Any] = SPEC.model_dump(mode="json")  # Any: nested JSON

Data = dict[str, Any]  # Any: as above

NOWHERE = "zebra crossing"  # in none of the lab's articles: what changes is what the old phrase did
IN_ALL = "harbour"  # in all of them, for lists that were empty

# Fields that have but one valid value: the other is refused, which is what they are for.
FIXED = {"schema_version": 2, "tiers.2.min_overall": 0.5}

STATIC = {"student.backend": "static"}
ENCODER = {"student.backend": "encoder"}
FROZEN = {"student.backend": "frozen"}
RESTLESS_HEAD = {"epochs": 30, "learning_rate": 0.05}  # its validation error bounces, so that patience has a say
RESTLESS_MODEL = {"epochs": 6, "learning_rate": 0.03}


@dataclass(frozen=True, slots=True)
class Rule:
    """How fields of one kind are changed, where each change must show, and under which settings (on both sides).

    `to`: the new value, or a function of the old one. `also`: further edits that keep the spec valid.
    """

    paths: str
    to: object
    seen_in: tuple[str, ...]
    under: Mapping[str, object] | None = None
    also: Callable[[Data, str, object], dict[str, object]] | None = None


def times(factor: float) -> Callable[[float], float]:
    return lambda value: value * factor


def renamed(value: str) -> str:
    return f"{value}_x"


def follow_dimension(data: Data, path: str, new: object) -> dict[str, object]:
    old = get(data, path)
    gates = {f"gatekeepers.{i}.dimension": new for i, g in enumerate(data["gatekeepers"]) if g["dimension"] == old}
    caps = [{new if name == old else name: cap for name, cap in flag["caps"].items()} for flag in data["flags"]]
    return gates | {f"flags.{i}.caps": capped for i, capped in enumerate(caps)}


def follow_tier(data: Data, path: str, new: object) -> dict[str, object]:
    return {"operating_tier": new} if data["operating_tier"] == get(data, path) else {}


def balance_weights(data: Data, path: str, new: object) -> dict[str, object]:
    """What one dimension gains, the next one loses."""
    sibling = (int(path.split(".")[1]) + 1) % len(data["dimensions"])
    other = data["dimensions"][sibling]["weight"]
    return {f"dimensions.{sibling}.weight": other + get(data, path) - float(str(new))}


def under(section: str, settings: Mapping[str, object], **more: object) -> dict[str, object]:
    return {**{f"{section}.{key}": value for key, value in settings.items()}, **more}


def head_rules(section: str, seen: str, situation: Mapping[str, object]) -> list[Rule]:
    """The rules for a head on frozen embeddings, of the probe, the static or the frozen student."""
    training = f"{section}.training"
    return [
        Rule(f"{section}.hidden.*", 8, (seen,), situation),
        Rule(f"{training}.epochs", 2, (seen,), situation),
        Rule(f"{training}.patience", 1, (seen,), {**situation, **under(training, RESTLESS_HEAD)}),
        Rule(f"{training}.learning_rate", times(3), (seen,), situation),
        Rule(f"{training}.weight_decay", times(100), (seen,), situation),
        Rule(f"{training}.batch_size", 8, (seen,), situation),
    ]


def frozen_rules(section: str, seen: str, situation: Mapping[str, object]) -> list[Rule]:
    """The rules for a frozen encoder with a head."""
    return [
        Rule(f"{section}.embedder", "tiny/encoder", (seen,), situation),
        Rule(f"{section}.revision", "other", (seen,), situation),
        Rule(f"{section}.prefix", "query: ", (seen,), situation),
        Rule(f"{section}.pooling", "cls", (seen,), situation),
        Rule(f"{section}.layers", [1], (seen,), situation),
        *head_rules(section, seen, situation),
    ]


def model_rules(section: str, other: str, situation: Mapping[str, object]) -> list[Rule]:
    """The rules for a student that is trained by torch."""
    seen, training = ("student",), f"{section}.training"
    return [
        Rule(f"{section}.base_model", other, seen, situation),
        Rule(f"{section}.revision", "other", seen, situation),
        Rule(f"{section}.loss", "mse", seen, situation),
        Rule(f"{training}.epochs", 1, seen, situation),
        Rule(f"{training}.patience", 1, seen, {**situation, **under(training, RESTLESS_MODEL)}),
        Rule(f"{training}.learning_rate", times(3), seen, situation),
        Rule(f"{training}.layer_decay", 0.2, seen, situation),
        Rule(f"{training}.weight_decay", times(100), seen, situation),
        Rule(f"{training}.batch_tokens", 256, seen, situation),
        Rule(f"{training}.accumulate", 3, seen, situation),
        Rule(f"{training}.recompute", True, ("passes",), situation),
        Rule(f"{training}.warmup_ratio", 0.8, seen, situation),
    ]


RULES = [
    Rule("name", renamed, ("bundle",)),
    Rule("version", 4, ("bundle",)),
    Rule("summary", "Another summary.", ("prompt",)),
    Rule("dimensions.*.name", renamed, ("prompt",), also=follow_dimension),
    Rule("dimensions.*.weight", times(0.9), ("verdicts",), also=balance_weights),
    Rule("dimensions.*.question", "Another question?", ("prompt",)),
    Rule("dimensions.*.anchors.*", "Another anchor.", ("prompt",)),
    Rule("tiers.*.name", renamed, ("verdicts",), also=follow_tier),
    Rule("tiers.*.min_overall", times(1.1), ("verdicts",)),
    Rule("operating_tier", BASE["tiers"][0]["name"], ("certificate", "threshold", "report")),
    Rule("operating_point.max", None, ("selection",), also=lambda *_: {"operating_point.min_recall": 0.9}),
    Rule("operating_point.min_recall", 0.9, ("selection",), also=lambda *_: {"operating_point.max": None}),
    Rule("operating_point.min_precision", 0.7, ("selection",), also=lambda *_: {"operating_point.max": None}),
    Rule("gatekeepers.*.dimension", BASE["dimensions"][3]["name"], ("verdicts",)),
    Rule("gatekeepers.*.below", times(1.5), ("verdicts",)),
    Rule("gatekeepers.*.overall_cap", times(0.9), ("verdicts",)),
    Rule("flags.*.name", renamed, ("prompt",)),
    Rule("flags.*.question", "Another question?", ("prompt",)),
    Rule("flags.*.caps.*", times(0.5), ("capped",)),
    Rule("prefilter.*.name", renamed, ("blocked",)),
    Rule("prefilter.*.mode", lambda mode: {"block": "shadow", "shadow": "block"}[mode], ("blocked",)),
    Rule("prefilter.*.where", "text", ("blocked",)),
    Rule("prefilter.*.words", [IN_ALL], ("blocked",)),
    Rule("prefilter.*.words.*", NOWHERE, ("blocked",)),
    Rule("prefilter.*.patterns", [IN_ALL], ("blocked",)),
    Rule("prefilter.*.patterns.*", NOWHERE, ("blocked",)),
    Rule("prefilter.*.unless", [IN_ALL], ("blocked",)),
    Rule("prefilter.*.unless.*", NOWHERE, ("blocked",)),
    Rule("prefilter_unless.*", NOWHERE, ("blocked",)),
    Rule("text.strip_markup", False, ("texts", "blocked")),
    Rule("text.title_separator", " / ", ("texts",)),
    Rule("text.max_unknown_share", 0.5, ("bundle",)),
    Rule("oracle.model", "another-oracle", ("bundle",)),
    Rule("oracle.step", 1.0, ("verdicts",)),
    Rule("cascade.target_miss_rate", times(2), ("certificate", "threshold")),
    Rule("cascade.confidence", 0.8, ("certificate", "threshold")),
    Rule("cascade.probe.window.max_tokens", 64, ("probe", "windows")),
    Rule("cascade.probe.window.tail_share", 0.2, ("probe", "windows")),
    Rule("cascade.probe.window.separator", " / ", ("probe", "windows")),
    *frozen_rules("cascade.probe", "probe", {}),
    Rule("cascade.probe.tune", False, ("probe",), {"cascade.probe.embedder": "static"}),
    Rule("student.backend", "static", ("student",)),
    Rule("student.window.max_tokens", 64, ("student", "windows"), STATIC),
    Rule("student.window.tail_share", 0.2, ("student", "windows"), STATIC),
    Rule("student.window.separator", " / ", ("student", "windows"), STATIC),
    *model_rules("student.decoder", "tiny/decoder", {}),
    Rule("student.decoder.lora.rank", 4, ("student",)),
    Rule("student.decoder.lora.alpha", 64, ("student",)),
    Rule("student.decoder.lora.dropout", 0.5, ("student",)),
    *model_rules("student.encoder", "tiny/encoder", ENCODER),
    Rule("student.encoder.prefix", "query: ", ("student",), ENCODER),
    Rule("student.encoder.pooling", "cls", ("student",), ENCODER),
    *head_rules("student.static", "student", STATIC),
    Rule("student.static.tune", False, ("student",), STATIC),
    *frozen_rules("student.frozen", "student", FROZEN),
    Rule("card.license", "mit", ("bundle",)),
    Rule("card.language", ["nl"], ("bundle",)),
    Rule("card.note", "The rubric changed after labelling.", ("bundle",)),
    Rule("evaluation.slices.*.name", renamed, ("report",)),
    Rule("evaluation.slices.*.field", lambda field: {"source": "language", "language": "source"}[field], ("report",)),
    Rule("evaluation.slices.*.includes", NOWHERE, ("report",)),
    Rule("evaluation.slices.0.excludes", "news", ("report",)),
    Rule(
        "evaluation.slices.*.excludes",
        "n",
        ("report",),  # in every field that holds one of these
        {f"evaluation.slices.{place}.includes": letter for place, letter in ((1, "w"), (2, "l"), (3, "e"))},
    ),
    Rule("targets.mae", 0.5, ("gate",)),
    Rule("targets.recall_operating", 0.5, ("gate",)),
    Rule("targets.better_than_tfidf_ridge_by", 0.5, ("gate",)),
]


def leaves(value: object, path: str = "") -> Iterator[str]:
    """The dotted path of every leaf; a list without items is a leaf too, and of many phrases two stand for all."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        items = [(i, item) for i, item in items if item in ends(value)]
    found = [leaf for key, item in items for leaf in leaves(item, f"{path}.{key}".lstrip("."))]
    yield from found or [path]


def ends(phrases: Sequence[str]) -> Sequence[str]:
    """The first and the last of a list."""
    return [*phrases[:1], *phrases[1:][-1:]]


def get(data: Data, path: str) -> Any:  # Any: as above
    place: Any = data
    for part in path.split("."):
        place = place[int(part)] if isinstance(place, list) else place[part]
    return place


def edited(data: Data, edits: Mapping[str, object]) -> Data:
    copy: Data = json.loads(json.dumps(data))
    for path, value in edits.items():
        parent, _, last = path.rpartition(".")
        place = get(copy, parent) if parent else copy
        place[int(last) if isinstance(place, list) else last] = value
    return copy


def rule_for(path: str) -> Rule | None:
    """The rule whose pattern has as many parts as the path and matches it."""
    fitting = (r for r in RULES if r.paths.count(".") == path.count(".") and fnmatch.fnmatchcase(path, r.paths))
    return next(fitting, None)


def before_and_after(path: str, rule: Rule) -> tuple[FilterSpec, FilterSpec]:
    data = edited(BASE, rule.under or {})
    new = rule.to(get(data, path)) if callable(rule.to) else rule.to
    edits = {path: new, **(rule.also(data, path, new) if rule.also else {})}
    return parse_spec(data, "before"), parse_spec(edited(data, edits), "after")


PATHS = [path for path in leaves(BASE) if path not in FIXED]
IN_A_RUN = [
    path
    for path in PATHS
    if (rule := rule_for(path)) and not set(rule.seen_in) <= {"prompt", "capped", "bundle", "gate"}
]
# The encoder is trained as the decoder is, and the probe's head as the static student's.
TWINS = ("student.encoder.training.", "cascade.probe.training.", "cascade.probe.hidden.")
COSTLY = {"student", "passes", "probe", "bundle", "report"}  # a fit, a build or a report for each field
A_FEW = {  # one for each of them
    "student.decoder.training.learning_rate", "student.static.training.learning_rate", "cascade.probe.embedder",
    "student.decoder.training.recompute", "card.license", "operating_tier",
}  # fmt: skip


def sampled(paths: Sequence[str], is_observed: bool = True) -> list[Any]:  # Any: of pytest's parameter sets
    """All paths; `slow` are those after the first of a rule, twins, and most that show in a fit, build or report."""
    seen: set[str] = set()
    params = []
    for path in paths:
        pattern = rule.paths if (rule := rule_for(path)) else path
        is_costly = is_observed and rule is not None and bool(COSTLY & set(rule.seen_in)) and path not in A_FEW
        is_slow = pattern in seen or path.startswith(TWINS) or is_costly
        params.append(pytest.param(path, marks=pytest.mark.slow if is_slow else ()))
        seen.add(pattern)
    return params


@pytest.fixture
def lab_for(request: pytest.FixtureRequest, lab: Any) -> Callable[[Rule], Any]:  # Any: the conftest's Lab
    """The lab, with the models that the spec names where a test fits on them (which skips it without torch)."""

    def prepared(rule: Rule) -> Any:  # Any: as above
        backend = (rule.under or {}).get("student.backend")
        if "probe" in rule.seen_in or ({"student", "passes"} & set(rule.seen_in) and backend != "static"):
            request.getfixturevalue("published")
        return lab

    return prepared


@pytest.mark.parametrize("path", sampled(PATHS))
def test_a_changed_field_changes_what_the_code_does(path: str, lab_for: Callable[[Rule], Any]) -> None:
    rule = rule_for(path)
    assert rule is not None, f"{path}: nothing is known to depend on this field; add a Rule that says where it shows"
    before, after = before_and_after(path, rule)
    lab = lab_for(rule)

    unmoved = [what for what in rule.seen_in if lab.observe(what, before) == lab.observe(what, after)]

    assert unmoved == [], f"{path}: {get_spec(before, path)!r} and {get_spec(after, path)!r} do the same"


@pytest.mark.parametrize("path", sampled(IN_A_RUN, is_observed=False))
def test_a_changed_field_makes_a_finished_run_out_of_date(path: str, lab: Any) -> None:  # Any: as above
    before, after = before_and_after(path, rule_for(path))

    assert lab.task_keys(before) != lab.task_keys(after)


@pytest.mark.parametrize(
    "path",
    [p for p in PATHS if p.startswith(("student.encoder.", "student.frozen.", "student.static."))],
)
def test_settings_of_a_backend_that_is_not_used_leave_a_run_as_it_is(path: str, lab: Any) -> None:  # Any: as above
    rule = rule_for(path)
    before, after = before_and_after(path, replace(rule, under=None))

    assert lab.task_keys(before) == lab.task_keys(after)


@pytest.mark.parametrize("what", ["student", "probe", "report"])
def test_doing_the_same_again_gives_the_same(what: str, lab_for: Callable[[Rule], Any]) -> None:
    lab = lab_for(Rule("", "", (what,)))

    first = lab.observe(what, SPEC)
    again = lab.observe_anew(what, SPEC)

    assert first == again


@pytest.mark.parametrize("path", FIXED)
def test_a_field_with_one_valid_value_refuses_others(path: str) -> None:
    with pytest.raises(SpecError, match=re.escape(as_shown(path))):
        parse_spec(edited(BASE, {path: FIXED[path]}), "config.yaml")


def test_every_rule_has_a_field() -> None:
    used = {rule.paths for path in PATHS if (rule := rule_for(path))}

    assert [rule.paths for rule in RULES if rule.paths not in used] == []


def get_spec(spec: FilterSpec, path: str) -> object:
    return get(spec.model_dump(mode="json"), path)


def as_shown(path: str) -> str:
    """The path as messages write it: tiers.2.min_overall is tiers[2].min_overall."""
    return re.sub(r"\.(\d+)", r"[\1]", path)
