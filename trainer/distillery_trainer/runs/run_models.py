"""A run's two models and what they say of texts; each answer is kept when it was made."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distillery_runtime.spec.model import FilterSpec
from distillery_runtime.tokens.window import TokenWindow
from distillery_trainer.certify.calibration_file import read_calibration
from distillery_trainer.models.base_model import identity
from distillery_trainer.models.choose import STATIC, Embedder, load_student, reopen_embedder
from distillery_trainer.models.heads import load_head
from distillery_trainer.models.protocol import Student
from distillery_trainer.models.records import BaseRecord, base_folder
from distillery_trainer.models.static_embedder import TABLE_FILES, TABLE_FOLDER, StaticEmbedder
from distillery_trainer.store.chunk_cache import ChunkCache
from distillery_trainer.store.files import digest, tree_digest
from distillery_trainer.store.progress import Bar

Scores = NDArray[np.float32]


@dataclass(frozen=True)
class RunModels:
    """The models in a run's folder. Columns of scores are in the spec's order."""

    spec: FilterSpec
    folder: Path

    def student_raw(self, texts: Sequence[str]) -> Scores:
        """The student's raw outputs: (N, D) float32."""
        key = tree_digest(self.folder / "student")
        return self._kept("student", key, texts, lambda some: self._student.predict(some))

    def student_scores(self, texts: Sequence[str]) -> Scores:
        """The student's calibrated scores: (N, D) float32 in [0, 10]."""
        return read_calibration(self.folder / "calibration.json").apply(self.student_raw(texts))

    def probe_scores(self, texts: Sequence[str]) -> Scores:
        """The probe's calibrated scores: (N, D) float32 in [0, 10]."""
        head = load_head(self.folder / "probe" / "head.safetensors")
        raw = head.predict(self.embeddings(texts))
        return read_calibration(self.folder / "probe" / "calibration.json").apply(raw)

    def embeddings(self, texts: Sequence[str], embedder: Embedder | None = None) -> Scores:
        """What the probe's head reads: (N, H) float32, from the fitted probe's encoder unless another is given."""
        used, settings = embedder or self._embedder, self.spec.cascade.probe
        content = _table_digest(used.folder) if settings.embedder == STATIC else content_of(str(used.folder))
        key = digest([settings.model_dump(mode="json", exclude={"embedder", "training", "hidden"}), content])
        return self._kept("embeddings", key, texts, used.embed)

    def student_window(self, folder: Path | None = None) -> TokenWindow:
        """What of a text the student reads; its tokenizer lies in `folder`, by default the run's own."""
        student = self.spec.student
        prefix = student.encoder.prefix if student.backend == "encoder" else ""
        return TokenWindow((folder or self.folder / "student") / "tokenizer.json", student.window, prefix)

    def probe_window(self) -> TokenWindow:
        """What of a text the probe reads."""
        folder, probe = self.folder / "probe", self.spec.cascade.probe
        if probe.embedder == STATIC:
            return StaticEmbedder(probe.window, folder).window
        base = base_folder(BaseRecord.read(folder / "base.json"))
        return TokenWindow(base / "tokenizer.json", probe.window, probe.prefix)

    def unread(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """The share of each text that probe and student cannot read: (N, 2), in [0, 1]."""
        windows = (self.probe_window(), self.student_window())
        shares = [[min(row.unread, 1.0) for row in window.encode(texts)] for window in windows]
        return np.array(shares, np.float64).T.reshape(-1, 2)

    def is_unreadable(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Whether probe and student do not answer a text, as they cannot read it: (N, 2)."""
        return self.unread(texts) > self.spec.text.max_unknown_share

    @cached_property
    def _student(self) -> Student:
        """The fitted student, loaded when its first answer is needed that is not kept."""
        return load_student(self.spec, self.folder / "student")

    @cached_property
    def _embedder(self) -> Embedder:
        """The encoder that the fitted probe stands on."""
        return reopen_embedder(self.spec.cascade.probe, self.folder / "probe")

    def _kept(self, name: str, key: str, texts: Sequence[str], function: Callable[[Sequence[str]], Scores]) -> Scores:
        with Bar(name) as bar:
            cache = ChunkCache(self.folder / "cache" / name, key)
            return cache.compute(texts, function, lambda done: bar.advance_to(done, len(texts)))


def content_of(model: str) -> object:
    """What a key says of a model beside its name: its content, which may change under the name (not for a Hub id)."""
    if model == STATIC:
        return _table_digest(TABLE_FOLDER)
    return identity(Path(model)) if Path(model).is_dir() else None


def _table_digest(folder: Path) -> list[str]:
    return [tree_digest(folder / name) for name in TABLE_FILES]
