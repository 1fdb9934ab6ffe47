"""The probe: a head on a frozen encoder, or a static model like the static student."""

from pathlib import Path

from distillery_runtime.spec.model import ProbeSettings
from distillery_trainer.models import static
from distillery_trainer.models.choose import STATIC, reopen_embedder
from distillery_trainer.models.frozen import HEAD_FILE, Embed, FrozenStudent, fit_on
from distillery_trainer.models.heads import load_head
from distillery_trainer.models.protocol import FitData, Progress
from distillery_trainer.models.static import StaticStudent


def fit_probe(
    settings: ProbeSettings, data: FitData, folder: Path, seed: int, progress: Progress | None, embed: Embed
) -> None:
    """Writes a probe into `folder`.

    `embed` gives a frozen encoder's embeddings, (N, H) float32, which may have been kept.
    """
    if settings.embedder == STATIC:
        static.fit(settings, settings.window, data, folder, seed, progress)
    else:
        fit_on(settings, data, folder, seed, progress, embed)


def load_probe(settings: ProbeSettings, folder: Path) -> StaticStudent | FrozenStudent:
    """Reads what `fit_probe` wrote.

    Raises:
        InputError: the encoder found is not the one recorded.
    """
    if settings.embedder == STATIC:
        return static.load(folder, settings.window)
    return FrozenStudent(reopen_embedder(settings, folder), load_head(folder / HEAD_FILE))
