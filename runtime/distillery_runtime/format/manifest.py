"""The bundle's manifest (`bundle.json`): what a bundle holds, sealed so that a change of any byte shows.

The manifest lists every file with size and SHA-256, and ends with a `seal`: the SHA-256 of its own canonical form with
an empty seal. A manifest must be in canonical form, so each of its bytes is covered too. The seal finds damage; who
wants proof of origin compares the bundle id (the SHA-256 of the sealed file) with one from a trusted place.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from distillery_runtime.errors import BundleError
from distillery_runtime.files.strict_json import JsonError, parse_json
from distillery_runtime.spec.model import Name, StrictModel, Window
from distillery_runtime.spec.reading import describe
from distillery_runtime.spec.routing import ChanceModel, Routing
from distillery_runtime.spec.selection import Selection

FORMAT_VERSION: Literal[2] = 2
MANIFEST_NAME = "bundle.json"

Role = Literal["spec", "tokenizer", "graph", "weights", "calibration", "golden", "quality", "reference", "card"]
MAX_FILES = 64
MIB = 1 << 20
# For each role the ending of its files' names and their largest size. A graph's weights beyond 64 MiB are in a data
# file; of what a graph holds itself protobuf could read no more than 2 GiB.
KINDS: Mapping[Role, tuple[str, int]] = {
    "spec": (".json", 4 * MIB),
    "calibration": (".json", 4 * MIB),
    "golden": (".jsonl", 4 * MIB),
    "quality": (".json", 4 * MIB),
    "reference": (".json", 4 * MIB),
    "card": (".md", 4 * MIB),
    "tokenizer": (".json", 64 * MIB),
    "graph": (".onnx", 256 * MIB),
    "weights": (".data", 1 << 40),
}
SINGLE_ROLES: tuple[Role, ...] = ("spec", "calibration", "golden", "quality", "reference", "card")


def _is_safe(path: str) -> str:
    parts = PurePosixPath(path).parts
    plain = re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.\-]*)*", path)
    if not plain or ".." in parts or path == MANIFEST_NAME:
        raise ValueError("a relative path inside the bundle, of letters, digits, '_', '-', '.' and '/'")
    return path


SafePath = Annotated[str, AfterValidator(_is_safe)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


Bounded = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]  # sums of them stay finite


class FileEntry(StrictModel):
    """One file of the bundle."""

    path: SafePath
    role: Role
    size_bytes: Annotated[int, Field(ge=0)]
    sha256: Sha256

    @model_validator(mode="after")
    def _is_of_its_kind(self) -> Self:
        ending, most = KINDS[self.role]
        if not self.path.endswith(ending):
            raise ValueError(f"a file of role {self.role} whose name ends with {ending}, found {self.path}")
        if self.size_bytes > most:
            raise ValueError(f"at most {most} bytes for a file of role {self.role}, found {self.size_bytes}")
        return self


class VariantEntry(StrictModel):
    """One form of a stage's model: graphs run in a chain, each reading what the one before gave."""

    name: str
    graphs: Annotated[tuple[SafePath, ...], Field(min_length=1, max_length=2)]


class ChanceEntry(StrictModel):
    """A stage's chance model: a weight for each dimension in the spec's order, and for a find head's logit if any."""

    weights: Annotated[tuple[Bounded, ...], Field(min_length=1)]
    intercept: Bounded

    @property
    def model(self) -> ChanceModel:
        """The model."""
        return ChanceModel(self.weights, self.intercept)


class StageEntry(StrictModel):
    """One stage of the cascade. An article below `threshold` stops here; None stops none.

    What is compared with it is the chance in [0, 1] by `chance` (by `router` in format 1), or without these the
    article's overall.
    """

    name: Name
    tokenizer: SafePath
    window: Window
    prefix: str
    threshold: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)] | None
    variants: Annotated[tuple[VariantEntry, ...], Field(min_length=1)]
    router: ChanceEntry | None = Field(default=None, exclude_if=lambda entry: entry is None)  # of format 1
    chance: ChanceEntry | None = Field(default=None, exclude_if=lambda entry: entry is None)

    @property
    def routing(self) -> Routing:
        """Which articles the stage answers."""
        found = self.chance or self.router
        return Routing(self.threshold, found.model if found else None)


class FilterEntry(StrictModel):
    """Which filter the bundle scores."""

    name: Name
    version: int


class Manifest(StrictModel):
    """The content of `bundle.json`. `selection` is None in format 1, where articles are selected by their tier."""

    format_version: Literal[1, 2]
    filter: FilterEntry
    stages: Annotated[tuple[StageEntry, ...], Field(min_length=1)]
    selection: Selection | None = Field(default=None, exclude_if=lambda entry: entry is None)
    lineage: dict[str, str]
    files: Annotated[tuple[FileEntry, ...], Field(max_length=MAX_FILES)]
    seal: str = ""

    @model_validator(mode="after")
    def _is_coherent(self) -> Self:
        listed = [entry.path for entry in self.files]
        if len({path.casefold() for path in listed}) != len(listed):  # some systems do not tell A from a
            raise ValueError("each file listed once")
        roles = [entry.role for entry in self.files]
        for role in SINGLE_ROLES:
            if roles.count(role) != 1:
                raise ValueError(f"one file of role {role}, found {roles.count(role)}")
        for stage in self.stages:
            used = [stage.tokenizer, *(graph for variant in stage.variants for graph in variant.graphs)]
            for path in used:
                if path not in listed:
                    raise ValueError(f"every file a stage uses among the files, {path} is not")
            if len({variant.name for variant in stage.variants}) != len(stage.variants):
                raise ValueError(f"variant names not used twice in stage {stage.name}")
        if len({stage.name for stage in self.stages}) != len(self.stages):
            raise ValueError("stage names not used twice")
        if self.stages[-1].threshold is not None:
            raise ValueError("no threshold on the last stage")
        if any((s.router or s.chance) and s.threshold is not None and not 0 < s.threshold < 1 for s in self.stages):
            raise ValueError("a threshold above 0 and below 1 beside a router")
        new = self.format_version > 1
        if any((s.chance is not None) != new or (s.router and new) for s in self.stages) or bool(self.selection) != new:
            raise ValueError("chances and a selection in format 2, and neither in format 1")
        return self

    @property
    def size_bytes(self) -> int:
        """The size of all files together."""
        return sum(entry.size_bytes for entry in self.files)

    def path_of(self, role: Role) -> str:
        """The path of the one file with this role."""
        return next(entry.path for entry in self.files if entry.role == role)


def seal(manifest: Manifest) -> bytes:
    """The bytes of `bundle.json`: canonical JSON with the seal in place."""
    digest = hashlib.sha256(_canonical(manifest.model_copy(update={"seal": ""}))).hexdigest()
    return _canonical(manifest.model_copy(update={"seal": digest}))


def parse_manifest(data: bytes, where: str) -> Manifest:
    """Reads `bundle.json`.

    Raises:
        BundleError: not JSON, a newer format, an unknown field or role, an unsafe path, not canonical, a wrong seal.
    """
    try:
        content = parse_json(data)
    except JsonError as error:
        raise BundleError(f"{where}: not JSON ({error})") from error
    version = content.get("format_version") if isinstance(content, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise BundleError(
            f"{where}: format_version {version}, this distillery-runtime reads up to {FORMAT_VERSION}: upgrade it"
        )
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError as error:
        problems = "; ".join(str(describe(item)) for item in error.errors(include_url=False))
        raise BundleError(f"{where}: {problems}") from error
    if data != seal(manifest):
        raise BundleError(f"{where}: the seal does not match the content, expected an unchanged file")
    return manifest


def _canonical(manifest: Manifest) -> bytes:
    return (json.dumps(manifest.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n").encode()
