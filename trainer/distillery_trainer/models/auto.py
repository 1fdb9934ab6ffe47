"""Backend `auto`: the best student that this machine can fit as it is, chosen without downloading anything."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from distillery_runtime.errors import ProviderError
from distillery_runtime.spec.model import FilterSpec
from distillery_trainer.models.base_model import local_folder
from distillery_trainer.models.choose import HEADS_ONLY, STATIC, import_torch_side

AUTO = "auto"
BACKEND, EMBEDDER = "student.backend", "cascade.probe.embedder"  # the settings that a choice fills in
TORCH = ("torch", "transformers", "peft")
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A backend that stands on a pretrained model, `student.<backend>.<model>`, and on installed `packages`."""

    backend: str
    model: str = "base_model"
    packages: tuple[str, ...] = TORCH
    needs_gpu: bool = False

    def base_model(self, spec: FilterSpec) -> str:
        """The model that it stands on: a Hub id or a folder."""
        return str(getattr(getattr(spec.student, self.backend), self.model))

    def lacks(self, spec: FilterSpec) -> list[str]:
        """What this machine lacks for it, each with how to get it; empty where it can be fitted."""
        settings = getattr(spec.student, self.backend)
        found = [*_packages(self.packages), *_model(self.base_model(spec), settings.revision)]
        if self.needs_gpu and (found or not _has_gpu()):  # torch is imported, which takes seconds, only if that decides
            found.append("a CUDA GPU")
        return found


# From the best to the least. An encoder that is fine-tuned is better than a frozen one, and takes hours without a GPU:
# who wants it names it. The table of `static` comes with the trainer, so it can always be fitted.
CANDIDATES = (
    Candidate("decoder", needs_gpu=True),
    Candidate("frozen", "embedder", (*TORCH, "sentence-transformers")),
)


@dataclass(frozen=True, slots=True)
class Choice:
    """What `auto` became: the settings that say so, the reason, and what each better backend lacks here."""

    settings: dict[str, object]
    reason: str
    better: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        """The choice, as the first lines of a fit show it."""
        probe = f", behind a {self.settings[EMBEDDER]} probe" if EMBEDDER in self.settings else ""
        yield f"backend: {self.settings[BACKEND]}{probe}, chosen by {AUTO}: {self.reason}"
        yield from (f"better: {one}" for one in self.better)

    def record(self) -> dict[str, object]:
        """The choice, as a run's manifest has it."""
        return {"settings": self.settings, "reason": self.reason, "better": list(self.better)}


def choose_backend(
    spec: FilterSpec, is_embedder_named: bool = False, candidates: Sequence[Candidate] = CANDIDATES
) -> Choice | None:
    """What the backend `auto` of a spec means on this machine; None where the spec names a backend.

    Args:
        is_embedder_named: whether an embedder was asked for by name, and so is not replaced as a decoder's probe where
            it is missing.
        candidates: from the best to the least; where none can be fitted, it is `static`.
    """
    if spec.student.backend != AUTO:
        return None
    better: list[str] = []
    backend, reason = STATIC, "it needs neither torch nor a base model"
    for candidate in candidates:
        if lacks := candidate.lacks(spec):
            better.append(f"{candidate.backend} (needs {'; '.join(lacks)})")
            continue
        model = candidate.base_model(spec)
        backend, reason = candidate.backend, f"{model} is on this machine{', and a GPU' * candidate.needs_gpu}"
        break
    settings: dict[str, object] = {BACKEND: backend}
    probe = spec.cascade.probe
    if probe.embedder != STATIC and backend in HEADS_ONLY:  # a probe costs less than its student
        settings[EMBEDDER] = STATIC
    elif probe.embedder != STATIC and not is_embedder_named and (lacks := _model(probe.embedder, probe.revision)):
        settings[EMBEDDER] = STATIC
        better.append(f"a probe on an encoder (needs {'; '.join(lacks)})")
    return Choice(settings, reason, tuple(better))


def _packages(names: tuple[str, ...]) -> list[str]:
    missing = [name for name in names if not _is_installed(name)]
    return [f"{', '.join(missing)}: pip install 'distillery-trainer[torch]'"] if missing else []


def _is_installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def _model(model: str, revision: str) -> list[str]:
    if local_folder(model, revision):
        return []
    if not HUB_ID.fullmatch(model) or Path(model).expanduser().exists():
        return [f"{model}: a folder with config.json, tokenizer.json and safetensors weights"]
    at = "" if revision == "main" else f" --revision {revision}"
    return [f"{model}: hf download {model}{at}"]


def _has_gpu() -> bool:
    try:
        return str(import_torch_side("distillery_trainer.neural.running").device().type) == "cuda"
    except ProviderError:  # installed, and not importable
        return False
