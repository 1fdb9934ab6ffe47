"""Choosing a backend and an embedder by name, importing torch only for those that need it."""

import contextlib
import importlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from distillery_runtime.errors import DistilleryError, InputError, Problem, ProviderError
from distillery_runtime.spec.model import FilterSpec, ProbeSettings, Window
from distillery_runtime.tokens.window import TokenWindow
from distillery_trainer.models.base_model import identity
from distillery_trainer.models.protocol import FitData, Progress, Student
from distillery_trainer.models.records import BaseRecord, base_folder
from distillery_trainer.models.static_embedder import POOLING, TABLE_FILES, TABLE_FOLDER, StaticEmbedder
from distillery_trainer.store import processes
from distillery_trainer.store.files import digest, tree_digest

STATIC, FROZEN = "static", "frozen"
HEADS_ONLY = (STATIC, FROZEN)  # backends whose fit needs no group of processes, as no transformer is trained


class Embedder(Protocol):
    """Gives embeddings and knows what makes its ids."""

    folder: Path
    window: TokenWindow

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(N, H) float32 rows of unit length, in the order of `texts`."""


class Backend(Protocol):
    """What each backend module offers."""

    fit: Callable[..., None]
    load: Callable[..., Student]


class SharedBackend(Backend, Protocol):
    """What those offer beside it whose students may share a backbone."""

    take: Callable[[Path, Path, Sequence[int], Window, Sequence[str]], None]


def fit_student(
    spec: FilterSpec,
    data: FitData,
    folder: Path,
    seed: int,
    progress: Progress | None,
    embed: Callable[[Sequence[str], Embedder], NDArray[np.float32]] | None = None,
) -> None:
    """Fits the student that the spec asks for into `folder`, going on with what an interrupted call left there.

    Where a launcher started several processes, all of them call this, and the first one writes. `embed`: gives a frozen
    encoder's embeddings, (N, H) float32, which may have been kept.
    """
    student = spec.student
    settings = getattr(student, student.backend)
    further = {"embed": embed} if student.backend == FROZEN else {}
    _backend(student.backend).fit(settings, student.window, data, folder, seed, progress, **further)


def base_model_of(spec: FilterSpec) -> str:
    """The pretrained model that the spec's student stands on, as the spec names it, or `static`."""
    settings = getattr(spec.student, spec.student.backend)
    return str(settings.embedder if spec.student.backend == FROZEN else getattr(settings, "base_model", STATIC))


def call_helpers(spec: FilterSpec, word: Literal["FIT", "END"]) -> None:
    """Tells processes that wait in `help_fits` that a fit begins, or that all are done and leave the group."""
    if processes.count() > 1 and spec.student.backend not in HEADS_ONLY:
        torch_group = import_torch_side("distillery_trainer.neural.group")
        torch_group.join().say(getattr(torch_group, word))
        if word == "END":
            torch_group.leave()


def help_fits(spec: FilterSpec, data: Callable[[], FitData], seed: int) -> None:
    """Helps the first process with its fits until it has none any more. `data` is asked for when a fit begins."""
    if spec.student.backend in HEADS_ONLY:
        return
    torch_group = import_torch_side("distillery_trainer.neural.group")
    while torch_group.join().receive() == torch_group.FIT:
        # What is wrong with the data or the model, the first process finds too, and says.
        with tempfile.TemporaryDirectory() as unused, contextlib.suppress(DistilleryError):
            fit_student(spec, data(), Path(unused), seed, None)
    torch_group.leave()


def load_student(spec: FilterSpec, folder: Path) -> Student:
    """Loads a fitted student."""
    return _backend(spec.student.backend).load(folder, spec.student.window)


def take_dimensions(spec: FilterSpec, source: Path, folder: Path, places: Sequence[int], texts: Sequence[str]) -> None:
    """Copies a fitted student with the dimensions at `places` alone, proved on some of `texts`; not a static one."""
    cast(SharedBackend, _backend(spec.student.backend)).take(source, folder, places, spec.student.window, texts)


def load_merged_decoder(spec: FilterSpec, folder: Path) -> Student:
    """Loads a fitted decoder with its adapter merged into the base model, as an export has it."""
    return _backend("decoder").load(folder, spec.student.window, merged=True)


def open_embedder(settings: ProbeSettings) -> Embedder:
    """The probe's encoder as it comes: `static`, a Hub id or a folder."""
    if settings.embedder == STATIC:
        return StaticEmbedder(settings.window)
    torch_embedder = import_torch_side("distillery_trainer.neural.embedder")
    embedder = torch_embedder.TorchEmbedder(
        settings.embedder, settings.revision, settings.window, settings.prefix, settings.pooling, settings.layers
    )
    return cast(Embedder, embedder)  # loaded by name, so that torch stays optional


def reopen_embedder(settings: ProbeSettings, folder: Path) -> Embedder:
    """The encoder that the probe in `folder` stands on.

    Raises:
        InputError: the model found is not the one recorded.
    """
    found = base_folder(BaseRecord.read(folder / "base.json"))
    return open_embedder(settings.model_copy(update={"embedder": str(found)}))


def content_of(model: str) -> object:
    """What a key says of a model beside its name: its content, which may change under the name (not for a Hub id)."""
    if model == STATIC:
        return table_digest(TABLE_FOLDER)
    return identity(Path(model)) if Path(model).is_dir() else None


def embedding_key(settings: ProbeSettings, embedder: Embedder) -> str:
    """The digest of all that a text's embedding depends on, but for the text."""
    folder = embedder.folder
    content = [*table_digest(folder), POOLING] if settings.embedder == STATIC else content_of(str(folder))
    return digest([settings.model_dump(mode="json", exclude={"embedder", "training", "hidden"}), content])


def table_digest(folder: Path) -> list[str]:
    """The digests of a token table and its tokenizer."""
    return [tree_digest(folder / name) for name in TABLE_FILES]


def import_torch_side(module: str) -> ModuleType:
    """Imports one of our modules that needs torch.

    Raises:
        ProviderError: torch, transformers or peft is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ProviderError(
            f"{error.name} is not installed, expected for this backend: pip install 'distillery-trainer[torch]' "
            "(or use --backend static --embedder static, which need none)"
        ) from error


def _backend(name: str) -> Backend:
    if name == "auto":
        problem = Problem(
            "student.backend", "auto", "a backend: the config.resolved.yaml of a run names the one chosen"
        )
        raise InputError("config", [problem])
    folder = "models" if name in HEADS_ONLY else "neural"
    return cast(Backend, import_torch_side(f"distillery_trainer.{folder}.{name}"))  # a module is the backend
