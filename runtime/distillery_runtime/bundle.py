"""Loading a bundle: check every byte, open its stages, replay golden articles, and only then score."""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from distillery_runtime.errors import BundleError, SpecError
from distillery_runtime.golden import CalibrationFile, Golden, parse_goldens, replay
from distillery_runtime.integrity import open_manifest
from distillery_runtime.manifest import Manifest
from distillery_runtime.scorer import HybridScorer
from distillery_runtime.session import Provider
from distillery_runtime.shared import Shared
from distillery_runtime.spec import FilterSpec
from distillery_runtime.spec_checks import parse_spec
from distillery_runtime.stage import Stage, open_stage

logger = logging.getLogger(__name__)

SELF_TEST_GOLDENS = 2


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose every file has been checked. Nothing of it has been opened by onnxruntime yet."""

    folder: Path
    id: str
    manifest: Manifest
    spec: FilterSpec
    calibration: CalibrationFile
    goldens: tuple[Golden, ...]

    @property
    def name(self) -> str:
        """`<filter>-<version>@<first 12 hex digits of the id>`."""
        return f"{self.spec.label}@{self.id[:12]}"


def open_bundle(path: str | Path) -> Bundle:
    """Checks a bundle's files and reads its data.

    Raises:
        BundleError: a file is missing, unlisted, linked or changed, or the format is not readable.
    """
    folder = Path(path)
    manifest, bundle_id = open_manifest(folder)
    spec = _read_spec(folder / manifest.path_of("spec"))
    if (spec.name, spec.version) != (manifest.filter.name, manifest.filter.version):
        raise BundleError(f"{folder}: filter.json is of {spec.label}, expected the filter that bundle.json names")
    calibration_path = folder / manifest.path_of("calibration")
    try:
        calibration = CalibrationFile.model_validate_json(calibration_path.read_bytes())
    except ValidationError as error:
        raise BundleError(f"{calibration_path}: {error}") from error
    golden_path = folder / manifest.path_of("golden")
    goldens = parse_goldens(golden_path.read_bytes(), str(golden_path))
    problems = list(_check_dimensions(manifest, spec, calibration, goldens))
    if problems:
        raise BundleError("\n".join(f"{folder}: {line}" for line in problems))
    return Bundle(folder, bundle_id, manifest, spec, calibration, tuple(goldens))


def _check_dimensions(
    manifest: Manifest, spec: FilterSpec, calibration: CalibrationFile, goldens: Sequence[Golden]
) -> Iterator[str]:
    """Sees that every variant's calibration and golden answers have the spec's dimensions, in the spec's order."""
    for stage in manifest.stages:
        if stage.router and len(stage.router.weights) != len(spec.dimensions):
            yield f"stage {stage.name}: the router does not have one weight for each dimension"
        for variant in stage.variants:
            where = f"stage {stage.name}, variant {variant.name}"
            maps = calibration.stages.get(stage.name, {}).get(variant.name, ())
            if tuple(m.dimension for m in maps) != spec.dimension_names:
                yield f"{where}: calibration.json does not have the filter's dimensions in their order"
            for golden in goldens:
                answer = golden.expected.get(stage.name, {}).get(variant.name)
                if answer is None or len(answer.raw) != len(spec.dimensions):
                    yield f"{where}: golden {golden.id} does not have one answer for each dimension"


def load(
    path: str | Path,
    *,
    provider: Provider = "auto",
    threads: int | None = None,
    variant: str | None = None,
    expected_id: str | None = None,
    shared: Shared | None = None,
) -> HybridScorer:
    """Opens a bundle for scoring.

    Args:
        path: the bundle's folder.
        provider: "cpu", "cuda", or "auto": CUDA where it really works, the CPU otherwise.
        threads: threads for each model; by default the cores this process may use.
        variant: the variant to run in every stage that has it; by default each stage runs the fastest for the hardware.
        expected_id: refuse any other bundle than the one with this id (a prefix of at least 12 digits will do).
        shared: graphs and tokenizers to share with bundles that were opened with it before.

    Raises:
        BundleError: the bundle is damaged, unsafe, too new, another than expected, does not have the variant, or
            answers otherwise than where it was made.
        ProviderError: "cuda" or a variant for it was asked for and does not work here.
    """
    bundle = open_bundle(path)
    check_id(str(path), bundle.id, expected_id)
    stages = open_stages(bundle, provider, threads, variant, shared)
    shortest = sorted(bundle.goldens, key=lambda golden: len(golden.text))[:SELF_TEST_GOLDENS]
    problems = replay(stages, bundle.calibration, shortest, bundle.spec.text)
    if problems:
        raise BundleError("\n".join(f"{path}: self-test: {line}" for line in problems))
    logger.info("bundle loaded", extra={"bundle": bundle.name, "provider": stages[0].provider})
    return HybridScorer(bundle.spec, stages, bundle.name)


def check_id(where: str, bundle_id: str, expected_id: str | None) -> None:
    """Sees that a bundle is the expected one; None expects nothing.

    Raises:
        BundleError: it is another bundle, or fewer than 12 digits are expected.
    """
    if expected_id is not None and (len(expected_id) < 12 or not bundle_id.startswith(expected_id)):
        raise BundleError(f"{where}: bundle id {bundle_id}, expected {expected_id}")


def open_stages(
    bundle: Bundle,
    provider: Provider = "auto",
    threads: int | None = None,
    variant: str | None = None,
    shared: Shared | None = None,
) -> list[Stage]:
    """Opens every stage of a checked bundle, cheapest first, and of each only the variant that will run.

    Args:
        bundle: the bundle.
        provider: as in `load`.
        threads: as in `load`.
        variant: as in `load`.
        shared: as in `load`.

    Raises:
        BundleError: no stage has the variant, or a file cannot be opened.
        ProviderError: "cuda" or a variant for it was asked for and does not work here.
    """
    stages = bundle.manifest.stages
    if variant is not None and not any(variant == item.name for stage in stages for item in stage.variants):
        shipped = "; ".join(f"{stage.name}: {', '.join(item.name for item in stage.variants)}" for stage in stages)
        raise BundleError(f"{bundle.folder}: no stage has variant {variant}, expected one of: {shipped}")
    shared = shared or Shared()
    shared.learn(bundle.folder, bundle.manifest.files)
    return [open_stage(bundle.folder, entry, provider, threads, variant, shared) for entry in stages]


def _read_spec(path: Path) -> FilterSpec:
    try:
        return parse_spec(json.loads(path.read_bytes()), str(path))
    except (ValueError, RecursionError, SpecError) as error:
        raise BundleError(f"{path}: {error}") from error
