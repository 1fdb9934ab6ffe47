"""The forms in which a bundle ships a stage's model, and which of them runs on the hardware at hand.

All forms of a stage have the same inputs and outputs; they differ in precision, size and speed. A name that this
runtime does not know is passed over, so a bundle may hold forms made for later versions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from distillery_runtime.errors import BundleError, ProviderError

Device = Literal["cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class VariantForm:
    """One form: its name, the hardware it was made for, and how far its raw outputs may differ between machines.

    `tolerance` is absolute, in raw outputs (0 to 10 where calibrated). Kernels of another processor round otherwise;
    in int8 one activation that rounds to its neighbour moves the answer by a hundredth or so.
    """

    name: str
    device: Device
    tolerance: float


REFERENCE = VariantForm("cpu-fp32", "cpu", 1e-3)

FORMS: Mapping[str, VariantForm] = {
    form.name: form
    for form in (
        REFERENCE,
        VariantForm("cpu-int8", "cpu", 0.1),
        VariantForm("cpu-int4", "cpu", 0.1),
        VariantForm("cuda-fp16", "cuda", 0.05),
        VariantForm("cuda-bf16", "cuda", 0.25),
    )
}

# Best first. int4 is the smallest download but no faster than fp32. The quantised forms use operators that have no CUDA
# kernel; the reference runs anywhere.
ORDER: Mapping[Device, tuple[str, ...]] = {
    "cpu": ("cpu-int8", "cpu-fp32", "cpu-int4"),
    "cuda": ("cuda-fp16", "cuda-bf16", "cpu-fp32"),
}
_PLACE: Mapping[Device, str] = {"cpu": "a CPU", "cuda": "CUDA"}


@dataclass(frozen=True, slots=True)
class Choice:
    """The variant to run, and a short phrase for people that says why."""

    name: str
    reason: str


def choose(available: Sequence[str], device: Device, wanted: str | None = None) -> Choice:
    """Chooses one of a stage's variants.

    Args:
        available: the names of the variants that the stage has.
        device: where it is to run.
        wanted: the variant asked for; a stage that does not have it chooses as if nothing had been asked.

    Raises:
        ProviderError: the variant asked for, or every one that the stage has, needs other hardware.
        BundleError: this runtime knows none of the variants, or not the one asked for.
    """
    place, shipped = _PLACE[device], ", ".join(available)
    if wanted is not None and wanted in available:
        if wanted not in FORMS:
            raise BundleError(f"variant {wanted}: unknown to this distillery-runtime, expected one of {_known()}")
        if wanted not in ORDER[device]:
            raise ProviderError(f"variant {wanted} does not run on {place}, expected one of {', '.join(ORDER[device])}")
        return Choice(wanted, f"{wanted}: asked for")
    fit = [name for name in ORDER[device] if name in available]
    if fit:
        return Choice(fit[0], f"{fit[0]}: fastest on {place} among those this bundle ships ({shipped})")
    if any(name in FORMS for name in available):
        raise ProviderError(f"variants {shipped}: none runs on {place}, expected one of {', '.join(ORDER[device])}")
    raise BundleError(f"variants {shipped}: none known to this distillery-runtime, expected one of {_known()}")


def _known() -> str:
    return ", ".join(FORMS)
