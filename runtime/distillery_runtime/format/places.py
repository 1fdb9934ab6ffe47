"""Where a bundle's files lie: in its folder, or in the folder `shared` beside it, each under its digest.

Bundles beside each other often have large files in common, such as a token table and its tokenizer. A graph or a
tokenizer that is not in the bundle's own folder is looked for in `shared`. A name there is a digest, which the manifest
states: so where a file lies says nothing about what it is, and a bundle keeps its id, and its signature, wherever its
files lie.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from distillery_runtime.format.manifest import FileEntry, Role

SHARED_FOLDER = "shared"
# What may be shared, and how its names end there. A graph with a data file is excepted: it names that file.
SHAREABLE: Mapping[Role, str] = {"graph": ".onnx", "tokenizer": ".tokenizer.json"}


def shared_folder(bundle: Path) -> Path:
    """The folder for what bundles share that lie beside this one."""
    return bundle.parent / SHARED_FOLDER


def shared_place(bundle: Path, entry: FileEntry) -> Path:
    """Where a file of a role in `SHAREABLE` lies if the bundle shares it: named by its digest and its role alone."""
    return shared_folder(bundle) / f"{entry.sha256}{SHAREABLE[entry.role]}"


def place_of(bundle: Path, entry: FileEntry) -> Path:
    """Where a listed file lies: in the bundle's folder whenever anything has its name there.

    Args:
        bundle: the bundle's folder, without symbolic links.
        entry: the file, of the bundle's manifest.
    """
    own = bundle / entry.path
    return own if entry.role not in SHAREABLE or os.path.lexists(own) else shared_place(bundle, entry)
