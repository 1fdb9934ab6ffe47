"""Fitting the probe: a head on a frozen encoder, or a static table that is trained with its head."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distillery_runtime.spec.model import ProbeSettings
from distillery_trainer.models import static
from distillery_trainer.models.choose import STATIC, Embedder, open_embedder
from distillery_trainer.models.heads import HeadData, fit_head, save_head
from distillery_trainer.models.protocol import FitData, Progress
from distillery_trainer.models.records import find_base
from distillery_trainer.models.static_embedder import StaticEmbedder
from distillery_trainer.store.files import write_json

Embed = Callable[[Sequence[str], Embedder], NDArray[np.float32]]


def fit_probe(
    settings: ProbeSettings, data: FitData, folder: Path, seed: int, progress: Progress | None, embed: Embed
) -> Embedder:
    """Writes the head, and the table or which encoder it stands on, into `folder`; gives what the head reads.

    `embed` gives a frozen encoder's embeddings, (N, H) float32, which may have been kept.
    """
    if settings.embedder == STATIC:
        static.fit(settings, settings.window, data, folder, seed, progress)
        return StaticEmbedder(settings.window, folder)
    embedder = open_embedder(settings)
    train, val = embed(data.train_texts, embedder), embed(data.val_texts, embedder)
    fitted = fit_head(HeadData.of(data, train, val), settings.hidden, settings.training, seed, progress)
    folder.mkdir(parents=True, exist_ok=True)
    save_head(fitted.head, folder / "head.safetensors")
    find_base(settings.embedder, settings.revision).write(folder / "base.json")
    write_json(folder / "head.json", {"val_mae": fitted.val_mae, **asdict(fitted.plan)})
    return embedder
