"""Fitting the probe: a head on a frozen encoder, or a static table that is trained with its head."""

from pathlib import Path

from distillery_runtime.spec.model import ProbeSettings
from distillery_trainer.models import static
from distillery_trainer.models.choose import STATIC, Embedder
from distillery_trainer.models.frozen import Embed, fit_on
from distillery_trainer.models.protocol import FitData, Progress
from distillery_trainer.models.static_embedder import StaticEmbedder


def fit_probe(
    settings: ProbeSettings, data: FitData, folder: Path, seed: int, progress: Progress | None, embed: Embed
) -> Embedder:
    """Writes the head, and the table or which encoder it stands on, into `folder`; gives what the head reads.

    `embed` gives a frozen encoder's embeddings, (N, H) float32, which may have been kept.
    """
    if settings.embedder == STATIC:
        static.fit(settings, settings.window, data, folder, seed, progress)
        return StaticEmbedder(settings.window, folder)
    return fit_on(settings, data, folder, seed, progress, embed)
