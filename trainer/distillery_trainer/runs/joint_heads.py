"""A joint training of heads on a frozen encoder: on all folds but one, in turn, and then on all articles."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from distillery_runtime.files.safe_write import replacing
from distillery_runtime.spec.model import FilterSpec
from distillery_runtime.spec.verdict import overalls
from distillery_trainer.data.labels import LabelledSet
from distillery_trainer.models.choose import Embedder, embedding_key
from distillery_trainer.models.heads import Head, Matrix
from distillery_trainer.models.joint_heads import Taught, fit_heads
from distillery_trainer.store.chunk_cache import ChunkCache
from distillery_trainer.store.progress import Bar


@dataclass(frozen=True, slots=True)
class JointHeads:
    """Heads of several filters, and what they learn from.

    `filters`: their labels. `embeddings`: (N, H) float32, of all filters' articles, each once. `folds`: (N,) the names
    of their folds. `taught`: what each filter's labels teach.
    """

    filters: Sequence[str]
    embeddings: Matrix
    folds: Sequence[str]
    taught: Sequence[Taught]
    seed: int

    def hold_out(self, output: Path) -> None:
        """Fits heads on all folds but one, in turn, and keeps their raw outputs on the fold left out, by filter.

        Rows are in the order of the filter's articles. A fold that an interrupted call has finished is kept.
        """
        output.mkdir(parents=True, exist_ok=True)
        for fold in sorted(set(self.folds)):
            path = output / f"{fold}.safetensors"
            if not path.is_file():
                with replacing(path) as beside:
                    save_file(self._held_out(fold), beside)

    def _held_out(self, fold: str) -> dict[str, Matrix]:
        is_left_out = np.array([name == fold for name in self.folds])
        heads = self._fitted(self.taught, np.flatnonzero(~is_left_out), fold)
        return {
            name: np.ascontiguousarray(head.predict(self.embeddings[own.rows[is_left_out[own.rows]]]))
            for name, head, own in zip(self.filters, heads, self.taught, strict=True)
        }

    def fit(self, held_out: Path) -> dict[str, Head]:
        """Fits heads on all articles, each with a find logit where every fold's head of the same filter had one.

        `held_out`: what `hold_out` wrote.
        """
        found = [load_file(path) for path in held_out.glob("*.safetensors")]
        widths = {name: min(raws[name].shape[1] for raws in found) for name in self.filters}
        taught = [
            replace(own, has_find=widths[name] > own.labels.shape[1])
            for name, own in zip(self.filters, self.taught, strict=True)
        ]
        heads = self._fitted(taught, np.arange(len(self.embeddings)), "all articles")
        return dict(zip(self.filters, heads, strict=True))

    def _fitted(self, taught: Sequence[Taught], rows: NDArray[np.int64], label: str) -> tuple[Head, ...]:
        with Bar(label) as bar:
            return fit_heads(self.embeddings[rows], [own.among(rows) for own in taught], self.seed, bar)


def taught_by(spec: FilterSpec, labelled: LabelledSet, rows: Sequence[int]) -> Taught:
    """What a filter's labels teach; `rows`: which of the embeddings are its articles'."""
    labels = labelled.labels()
    margins = overalls(np.clip(labels, 0, 10), spec) - spec.operating_overall
    return Taught(np.array(rows, np.int64), labels, labelled.weights(), margins)


def embedded(spec: FilterSpec, embedder: Embedder, texts: Sequence[str], cache: Path) -> Matrix:
    """What a frozen student's heads read of texts: (N, H) float32, kept in `cache` so that a killed pass goes on."""
    key = embedding_key(spec.student.frozen.in_window(spec.student.window), embedder)
    with Bar("embeddings") as bar:
        return ChunkCache(cache, key).compute(texts, embedder.embed, lambda done: bar.advance_to(done, len(texts)))
