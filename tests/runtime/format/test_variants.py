"""Variants: the best form for the hardware, the one asked for, and never one that cannot run."""

import pytest

from distillery_runtime.errors import BundleError, ProviderError
from distillery_runtime.format.variants import FORMS, ORDER, Device, choose

ALL = ["future-fp4", "cuda-bf16", "cpu-int4", "cpu-fp32", "cuda-fp16", "cpu-int8"]


@pytest.mark.parametrize(
    ("available", "device", "expected"),
    [
        (ALL, "cpu", "cpu-int8"),
        (["cpu-int4", "cpu-fp32", "cuda-fp16"], "cpu", "cpu-fp32"),
        (["cpu-int4", "cuda-fp16"], "cpu", "cpu-int4"),
        (ALL, "cuda", "cuda-fp16"),
        (["cpu-fp32", "cuda-bf16"], "cuda", "cuda-bf16"),
        (["cpu-int8", "cpu-fp32"], "cuda", "cpu-fp32"),
    ],
)
def test_the_best_form_for_the_hardware_is_chosen(available: list[str], device: Device, expected: str) -> None:
    choice = choose(available, device)

    assert choice.name == expected
    assert choice.reason.startswith(f"{expected}: fastest")


@pytest.mark.parametrize("wanted", ORDER["cpu"])
def test_the_variant_asked_for_is_used_where_there_is_one(wanted: str) -> None:
    choice = choose(ALL, "cpu", wanted)

    assert (choice.name, choice.reason) == (wanted, f"{wanted}: asked for")


def test_a_stage_without_the_variant_asked_for_chooses_by_itself() -> None:
    assert choose(["cpu-fp32"], "cpu", "cpu-int8") == choose(["cpu-fp32"], "cpu")


@pytest.mark.parametrize(
    ("available", "device", "wanted"),
    [
        (ALL, "cpu", "cuda-fp16"),
        (ALL, "cuda", "cpu-int8"),
        (["cuda-fp16", "cuda-bf16"], "cpu", None),
        (["cpu-int8"], "cuda", None),
    ],
)
def test_a_variant_that_needs_other_hardware_is_a_provider_error(
    available: list[str], device: Device, wanted: str | None
) -> None:
    with pytest.raises(ProviderError, match="expected one of"):
        choose(available, device, wanted)


@pytest.mark.parametrize("wanted", [None, "future-fp4"])
def test_a_variant_of_a_later_version_is_not_guessed_at(wanted: str | None) -> None:
    with pytest.raises(BundleError, match=r"future-fp4.*expected one of cpu-fp32"):
        choose(["future-fp4"], "cpu", wanted)


def test_every_form_runs_somewhere_and_the_reference_everywhere() -> None:
    assert set(FORMS) == set(ORDER["cpu"]) | set(ORDER["cuda"])
    assert all("cpu-fp32" in order for order in ORDER.values())
