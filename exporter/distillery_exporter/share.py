"""`exporter share`: finished bundles become a set, side by side, that holds what they have in common once.

The bundles keep their ids: their manifests state digests, and the files that they share are named by these.
"""

import shutil
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from distillery_exporter.bundle.writer import replacing_folder
from distillery_runtime.bundles.load import Bundle, load, open_bundle
from distillery_runtime.errors import InputError, Problem
from distillery_runtime.files.safe_write import replacing
from distillery_runtime.format.manifest import MANIFEST_NAME, FileEntry
from distillery_runtime.format.onnx_scan import scan_graph
from distillery_runtime.format.places import SHAREABLE, shared_folder, shared_place


def places_in_set(bundles: Sequence[Path], out: Path) -> list[Path]:
    """Where bundles lie in a set: `<out>/<filter>-<version>`.

    Raises:
        BundleError: a bundle is damaged.
        InputError: two bundles have one filter and version.
    """
    counts = Counter(open_bundle(folder).spec.label for folder in bundles)
    if twice := [Problem(name, f"{count} bundles", "one") for name, count in counts.items() if count > 1]:
        raise InputError("exporter share", twice)
    return [out / name for name in counts]


def share(bundles: Sequence[Path], out: Path) -> list[Bundle]:
    """Copies bundles into a set; a file that two of them have, or that one has twice, goes into `<out>/shared`.

    A file that is in `<out>/shared` already is shared too, so that a bundle can be added to a set. Each bundle is
    loaded on the CPU before any of them gets its name. Other bundles of the set stay as they are.

    Args:
        bundles: the bundles' folders; they may be of another set.
        out: the set's folder, made if it is not there.

    Returns:
        The bundles in the set, in the order given, their files checked.

    Raises:
        BundleError: a bundle is damaged, or does not load in the set.
        InputError: as in `places_in_set`, or something else is in a bundle's new place.
    """
    targets = places_in_set(bundles, out)
    opened = [open_bundle(folder) for folder in bundles]
    common = _common(opened, targets[0])
    shared_folder(targets[0]).mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        for bundle, target in zip(opened, targets, strict=True):
            folder = stack.enter_context(replacing_folder(target))
            _copy(bundle, folder, common)
            load(folder, provider="cpu", expected_id=bundle.id)
    return [open_bundle(target) for target in targets]


def size_bytes(bundles: Sequence[Bundle]) -> int:
    """The size of bundles together, what they share counted once."""
    sizes = {b.files.places[entry.path]: entry.size_bytes for b in bundles for entry in b.manifest.files}
    return sum(sizes.values()) + sum((b.folder / MANIFEST_NAME).stat().st_size for b in bundles)


def _common(bundles: Sequence[Bundle], target: Path) -> set[str]:
    """The digests of the files to share: of those that may be, those that are there more than once."""
    entries = [(bundle, entry) for bundle in bundles for entry in bundle.manifest.files if _may_share(bundle, entry)]
    counts = Counter(entry.sha256 for _, entry in entries)
    return {e.sha256 for _, e in entries if counts[e.sha256] > 1 or shared_place(target, e).is_file()}


def _may_share(bundle: Bundle, entry: FileEntry) -> bool:
    """Whether bundles may share a file: a tokenizer, or a graph that holds its weights itself."""
    if entry.role not in SHAREABLE:
        return False
    return entry.role != "graph" or not scan_graph(bundle.files.read(entry.path)).data_files


def _copy(bundle: Bundle, folder: Path, common: set[str]) -> None:
    """Copies a bundle into an empty folder of a set, and what it shares beside it."""
    shutil.copyfile(bundle.folder / MANIFEST_NAME, folder / MANIFEST_NAME)
    for entry in bundle.manifest.files:
        source = bundle.files.places[entry.path]
        if entry.sha256 in common:
            with replacing(shared_place(folder, entry)) as beside:
                shutil.copyfile(source, beside)
        else:
            (folder / entry.path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, folder / entry.path)
