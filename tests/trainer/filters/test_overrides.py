"""Overrides of a filter's config from the command line."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distillery_runtime.errors import InputError, SpecError
from distillery_runtime.spec.model import FilterSpec
from distillery_trainer.filters.overrides import apply_overrides, named_overrides

UNSET: dict[str, Any] = dict.fromkeys(("backend", "base_model", "embedder", "max_tokens", "epochs"))


def named(spec: FilterSpec, **options: object) -> dict[str, object]:
    return named_overrides(spec, **(UNSET | options))


def test_no_overrides_change_nothing(spec: FilterSpec) -> None:
    assert apply_overrides(spec, {}) == spec


def test_a_value_at_a_dotted_path_is_replaced_and_nothing_else(spec: FilterSpec) -> None:
    changed = apply_overrides(spec, {"cascade.target_miss_rate": 0.1})

    assert changed.cascade.target_miss_rate == 0.1
    assert apply_overrides(changed, {"cascade.target_miss_rate": spec.cascade.target_miss_rate}) == spec


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations([("cascade.confidence", 0.9), ("student.backend", "static"), ("operating_tier", "high")]))
def test_overrides_of_different_keys_do_not_depend_on_their_order(
    spec: FilterSpec, pairs: list[tuple[str, object]]
) -> None:
    assert apply_overrides(spec, dict(pairs)) == apply_overrides(spec, dict(sorted(pairs)))


def test_a_whole_section_can_be_replaced(spec: FilterSpec) -> None:
    assert apply_overrides(spec, {"gatekeepers": []}).gatekeepers == ()


@pytest.mark.parametrize(
    "path", ["cascade.target", "nothing", "", "cascade.", "name.x", "dimensions.0.weight", "cascade.probe.window.max"]
)
def test_a_path_that_the_config_does_not_have_is_refused_by_name(spec: FilterSpec, path: str) -> None:
    with pytest.raises(InputError) as error:
        apply_overrides(spec, {path: 1})

    assert [problem.path for problem in error.value.problems] == [path]


def test_the_frozen_backend_takes_the_embedder_and_brings_a_static_probe(spec: FilterSpec) -> None:
    assert named(spec, backend="frozen", embedder="owner/model", max_tokens=64, epochs=3) == {
        "student.backend": "frozen",
        "student.frozen.embedder": "owner/model",
        "student.frozen.training.epochs": 3,
        "cascade.probe.embedder": "static",
        "student.window.max_tokens": 64,
        "cascade.probe.window.max_tokens": 64,
    }


def test_a_base_model_of_the_frozen_backend_is_refused_with_the_option_to_use(spec: FilterSpec) -> None:
    with pytest.raises(InputError, match="expected --embedder"):
        named(spec, backend="frozen", base_model="owner/model")


@pytest.mark.parametrize("layers", [[0], [4, 4], [8, 4]])
def test_layers_ascend_from_one(spec: FilterSpec, layers: list[int]) -> None:
    with pytest.raises(SpecError, match=r"student\.frozen\.layers"):
        apply_overrides(spec, {"student.frozen.layers": layers})


def test_a_static_table_is_no_frozen_encoder(spec: FilterSpec) -> None:
    with pytest.raises(SpecError, match=r"a static table is student\.backend: static"):
        apply_overrides(spec, {"student.frozen.embedder": "static"})


def test_all_unknown_paths_are_named_at_once(spec: FilterSpec) -> None:
    with pytest.raises(InputError) as error:
        apply_overrides(spec, {"cascade.target": 1, "students": 2})

    assert [problem.path for problem in error.value.problems] == ["cascade.target", "students"]


def test_a_value_that_the_config_does_not_allow_is_refused_with_the_override_named(spec: FilterSpec) -> None:
    with pytest.raises(SpecError) as error:
        apply_overrides(spec, {"cascade.target_miss_rate": 1.5})

    assert str(error.value) == (
        "topic-1 with cascade.target_miss_rate: cascade.target_miss_rate: 1.5, expected less than 1"
    )


def test_an_override_that_breaks_a_rule_between_fields_is_refused(spec: FilterSpec) -> None:
    with pytest.raises(SpecError, match="operating_tier: 'low', expected one of high, medium"):
        apply_overrides(spec, {"operating_tier": "low"})


def test_no_options_name_no_overrides(spec: FilterSpec) -> None:
    assert named(spec) == {}


def test_the_static_backend_brings_the_static_embedder_along(spec: FilterSpec) -> None:
    assert named(spec, backend="static") == {"student.backend": "static", "cascade.probe.embedder": "static"}


def test_the_static_backend_takes_another_embedder_when_one_is_named(spec: FilterSpec) -> None:
    assert named(spec, backend="static", embedder="some/model")["cascade.probe.embedder"] == "some/model"


def test_other_backends_leave_the_embedder(spec: FilterSpec) -> None:
    assert named(spec, backend="encoder") == {"student.backend": "encoder"}


@pytest.mark.parametrize("backend", ["decoder", "encoder"])
def test_base_model_and_epochs_are_those_of_the_chosen_backend(spec: FilterSpec, backend: str) -> None:
    found = named(spec, backend=backend, base_model="some/model", epochs=2)

    expected = {f"student.{backend}.base_model": "some/model", f"student.{backend}.training.epochs": 2}
    assert {key: found[key] for key in expected} == expected


def test_a_base_model_for_the_static_backend_is_refused(spec: FilterSpec) -> None:
    with pytest.raises(InputError, match="--base-model: some/model"):
        named(spec, backend="static", base_model="some/model")


def test_a_base_model_without_the_backend_that_it_is_for_is_refused(spec: FilterSpec) -> None:
    with pytest.raises(InputError, match="--base-model: some/model"):
        named(spec, backend="auto", base_model="some/model")


def test_epochs_count_for_whichever_backend_auto_becomes(spec: FilterSpec) -> None:
    found = named(spec, backend="auto", epochs=2)

    resolved = apply_overrides(spec, found).student
    assert [resolved.decoder.training.epochs, resolved.encoder.training.epochs, resolved.static.training.epochs] == [
        2
    ] * 3


@pytest.mark.parametrize(("asked", "probe"), [(64, 64), (512, 512), (2048, 512)])
def test_a_shorter_window_shortens_the_probes_and_a_longer_one_does_not(
    spec: FilterSpec, asked: int, probe: int
) -> None:
    found = named(spec, max_tokens=asked)

    assert found == {"student.window.max_tokens": asked, "cascade.probe.window.max_tokens": probe}


def test_a_model_folder_is_recorded_so_that_it_is_found_from_anywhere(
    spec: FilterSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)

    assert named(spec, embedder="model")["cascade.probe.embedder"] == str((tmp_path / "model").resolve())


def test_an_embedder_for_auto_is_for_the_student_that_it_may_choose(spec: FilterSpec) -> None:
    auto = apply_overrides(spec, {"student.backend": "auto"})

    found = named(auto, embedder="owner/model")

    assert found["student.frozen.embedder"] == found["cascade.probe.embedder"] == "owner/model"
