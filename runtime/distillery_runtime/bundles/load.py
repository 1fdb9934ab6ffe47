"""Loading a bundle: check every byte, open its stages, replay golden articles, and only then score."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from distillery_runtime.bundles.golden import CalibrationFile, Golden, parse_calibration, parse_goldens, replay
from distillery_runtime.errors import BundleError, InputError, Problem, SpecError
from distillery_runtime.files.strict_json import JsonError, parse_json
from distillery_runtime.format.integrity import Checked, check_folder
from distillery_runtime.format.manifest import Manifest
from distillery_runtime.models.session import Provider
from distillery_runtime.models.shared import Shared
from distillery_runtime.models.stage import Stage, open_stage
from distillery_runtime.scoring.scorer import HybridScorer
from distillery_runtime.spec.calibration import ReadOut
from distillery_runtime.spec.model import FilterSpec
from distillery_runtime.spec.reading import parse_spec
from distillery_runtime.spec.selection import Selection

logger = logging.getLogger(__name__)

SELF_TEST_GOLDENS = 2


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose every file has been checked. Nothing of it has been opened by onnxruntime yet."""

    files: Checked
    spec: FilterSpec
    calibration: CalibrationFile
    goldens: tuple[Golden, ...]

    @property
    def folder(self) -> Path:
        """The bundle's folder, without symbolic links."""
        return self.files.folder

    @property
    def id(self) -> str:
        """The SHA-256 of `bundle.json`."""
        return self.files.id

    @property
    def manifest(self) -> Manifest:
        """The content of `bundle.json`."""
        return self.files.manifest

    @property
    def name(self) -> str:
        """`<filter>-<version>@<first 12 hex digits of the id>`."""
        return f"{self.spec.label}@{self.id[:12]}"


def open_bundle(path: str | Path, expected_id: str | None = None) -> Bundle:
    """Checks a bundle's files and reads its data.

    Args:
        path: the bundle's folder, or a symbolic link to it.
        expected_id: as in `load`.

    Raises:
        BundleError: a file is missing, unlisted, linked, changed or of no known kind, the format is not readable, or it
            is another bundle than expected.
        InputError: `expected_id` is not a whole bundle id.
    """
    files = check_folder(Path(path), expected_id)
    manifest, folder = files.manifest, files.folder
    spec = _read_spec(files)
    if (spec.name, spec.version) != (manifest.filter.name, manifest.filter.version):
        raise BundleError(f"{folder}: filter.json is of {spec.label}, expected the filter that bundle.json names")
    calibration_name = manifest.path_of("calibration")
    calibration = parse_calibration(files.read(calibration_name), str(folder / calibration_name))
    golden_name = manifest.path_of("golden")
    goldens = parse_goldens(files.read(golden_name), str(folder / golden_name))
    problems = list(_check_dimensions(manifest, spec, calibration, goldens))
    if problems:
        raise BundleError(*(f"{folder}: {line}" for line in problems))
    return Bundle(files, spec, calibration, tuple(goldens))


def read_quality(bundle: Bundle) -> object:
    """Reads `quality.json`, as any JSON.

    Raises:
        BundleError: it is not JSON, or not what was checked.
    """
    path = bundle.manifest.path_of("quality")
    try:
        return parse_json(bundle.files.read(path))
    except JsonError as error:
        raise BundleError(f"{bundle.folder / path}: not JSON ({error})") from error


def _check_dimensions(
    manifest: Manifest, spec: FilterSpec, calibration: CalibrationFile, goldens: Sequence[Golden]
) -> Iterator[str]:
    """Sees that every variant's calibration and golden answers have the spec's dimensions, in the spec's order."""
    for stage in manifest.stages:
        count = len(spec.dimensions)
        if stage.router and len(stage.router.weights) != count:
            yield f"stage {stage.name}: the router does not have one weight for each dimension"
        if stage.chance and len(stage.chance.weights) not in (count, count + 1):
            yield f"stage {stage.name}: the chance does not have one weight for each dimension and one for a find head"
        outputs = len(stage.chance.weights) if stage.chance else count
        for variant in stage.variants:
            where = f"stage {stage.name}, variant {variant.name}"
            if not _has_dimensions(calibration.read_out(stage.name, variant.name), manifest, spec):
                yield f"{where}: calibration.json does not have the filter's dimensions in their order"
            for golden in goldens:
                answer = golden.expected.get(stage.name, {}).get(variant.name)
                if answer is None or len(answer.raw) != outputs:
                    yield f"{where}: golden {golden.id} does not have one answer for each dimension"


def _has_dimensions(read_out: ReadOut | None, manifest: Manifest, spec: FilterSpec) -> bool:
    """Whether a calibration has the spec's dimensions, in the read-outs of the bundle's format."""
    if read_out is None or (read_out.scores is not None) != (manifest.format_version > 1):
        return False
    every = (read_out.expected, *([read_out.scores] if read_out.scores else []))
    return all(tuple(m.dimension for m in part.maps) == spec.dimension_names for part in every)


def load(
    path: str | Path,
    *,
    provider: Provider = "auto",
    threads: int | None = None,
    variant: str | None = None,
    expected_id: str | None = None,
    select: str | None = None,
    shared: Shared | None = None,
) -> HybridScorer:
    """Opens a bundle for scoring.

    Args:
        path: the bundle's folder.
        provider: "cpu", "cuda", or "auto": CUDA where it really works, the CPU otherwise.
        threads: threads for each model; by default the cores this process may use.
        variant: the variant to run in every stage that has it; by default each stage runs the fastest for the hardware.
        expected_id: refuse any other bundle than the one with this id: all its 64 digits.
        select: another operating point than the bundle's own: `min_recall=R`, `min_precision=P`, `chance=C`, `max=f1`
            or `tier`, chosen on the bundle's curve.
        shared: graphs and tokenizers to share with bundles that were opened with it before.

    Raises:
        BundleError: the bundle is damaged, unsafe, too new, another than expected, does not have the variant, or
            answers otherwise than where it was made.
        InputError: `expected_id` is not a whole bundle id, or the bundle's curve has no such operating point.
        ProviderError: "cuda" or a variant for it was asked for and does not work here.
    """
    bundle = open_bundle(path, expected_id)
    selection = _selection(bundle, select)
    stages = open_stages(bundle, provider, threads, variant, shared)
    shortest = sorted(bundle.goldens, key=lambda golden: len(golden.text))[:SELF_TEST_GOLDENS]
    problems = replay(stages, bundle.calibration, shortest, bundle.spec.text)
    if problems:
        raise BundleError(*(f"{path}: self-test: {line}" for line in problems))
    logger.info("bundle loaded", extra={"bundle": bundle.name, "provider": stages[0].provider})
    return HybridScorer(bundle.spec, stages, bundle.name, selection)


def _selection(bundle: Bundle, select: str | None) -> Selection | None:
    """The bundle's operating point, moved if another one is asked for."""
    selection = bundle.manifest.selection
    if select is None or (selection is None and select == "tier"):
        return selection
    if selection is None:
        found = "a bundle of format 1, whose results have no chance"
        raise InputError("--select", [Problem(str(bundle.folder), found, "a bundle of format 2, or `tier`")])
    return selection.moved(select)


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
    shared.learn(bundle.files)
    return [open_stage(bundle.folder, entry, provider, threads, variant, shared) for entry in stages]


def _read_spec(files: Checked) -> FilterSpec:
    name = files.manifest.path_of("spec")
    where = str(files.folder / name)
    try:
        return parse_spec(parse_json(files.read(name)), where)
    except JsonError as error:
        raise BundleError(f"{where}: not strict JSON ({error})") from error
    except SpecError as error:
        raise BundleError(*error.args) from error
