"""What decoder and encoder do alike around their training: tokens and lineage before, a proof of reload after."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from distillery_runtime.errors import ModelError
from distillery_runtime.files.safe_write import replacing
from distillery_runtime.spec.model import DecoderSettings, EncoderSettings, Loss, Window
from distillery_runtime.tokens.window import TokenWindow
from distillery_trainer.models import hl_gauss
from distillery_trainer.models.base_model import check_window
from distillery_trainer.models.protocol import FitData, Student
from distillery_trainer.models.records import BINS_FILE, BaseRecord, BinsRecord, find_base, read_bins
from distillery_trainer.models.sentence_models import check_sentence_model
from distillery_trainer.neural.batches import TrainingRows
from distillery_trainer.neural.tensor_files import read_tensors, write_tensors

PROOF_TEXTS = 8
RELOAD_TOLERANCE = 1e-4  # on the 0-10 scale; the same weights differ only by how a machine orders its sums


@dataclass(frozen=True, slots=True)
class FitInputs:
    """A fit's beginning: the base model, the tokenizer's window, the token rows, and what the weights depend on.

    `bins`: (K,) float32, the middles of the bins that the head gives, or None where it gives scores.
    """

    base: BaseRecord
    window: TokenWindow
    rows: TrainingRows
    lineage: str
    bins: NDArray[np.float32] | None

    @property
    def dimensions(self) -> int:
        """How many values the student gives for a text."""
        return int(self.rows.train_labels.shape[1])

    @property
    def constant(self) -> NDArray[np.float32]:
        """The head's outputs that suit the training labels best without reading: (D,) means, or (D * K,) logits."""
        labels, known = self.rows.train_labels, self.rows.weights > 0
        if self.bins is None:
            means: NDArray[np.float32] = labels.mean(axis=0, where=known)
            return means
        return hl_gauss.best_constant(labels, known).reshape(-1)


def prepare(
    settings: DecoderSettings | EncoderSettings, window: Window, prefix: str, data: FitData, folder: Path
) -> FitInputs:
    """Finds the base model, puts its tokenizer and the head's records into `folder`, and makes the token rows.

    Raises:
        InputError: the base model or the data is not usable, or the model reads fewer tokens than the window may give.
        ProviderError: the Hub cannot be reached.
    """
    base = find_base(settings.base_model, settings.revision)
    check_window(Path(base.folder), window)
    pooling = settings.pooling if isinstance(settings, EncoderSettings) else "lasttoken"
    check_sentence_model(settings.base_model, Path(base.folder), pooling, prefix)
    folder.mkdir(parents=True, exist_ok=True)
    _copy_tokenizer(Path(base.folder) / "tokenizer.json", folder / "tokenizer.json")
    base.write(folder / "base.json")
    tokens = TokenWindow(folder / "tokenizer.json", window, prefix)
    train_ids, val_ids = tokens.encode(data.train_texts), tokens.encode(data.val_texts)
    rows = TrainingRows(train_ids, data.train_labels, val_ids, data.val_labels, data.train_weights, data.val_weights)
    rows.check()
    bins = _choose_bins(settings.loss, folder)
    lineage = json.dumps([base.identity, settings.model_dump(mode="json")], sort_keys=True)
    return FitInputs(base, tokens, rows, lineage, bins)


def _choose_bins(loss: Loss, folder: Path) -> NDArray[np.float32] | None:
    """The bins that a loss asks for, recorded in `folder`; an earlier record goes."""
    if loss != "hl_gauss":
        (folder / BINS_FILE).unlink(missing_ok=True)
        return None
    centres = hl_gauss.centres()
    BinsRecord(centres=tuple(centres.tolist())).write(folder / BINS_FILE)
    return centres


def proof_texts(data: FitData) -> Sequence[str]:
    """The texts whose scores show that a saved student is the trained one."""
    return data.val_texts[:PROOF_TEXTS]


def check_reload(saved: Student, texts: Sequence[str], expected: NDArray[np.float32]) -> None:
    """Sees that a student loaded from its files answers as it did before it was saved.

    Args:
        expected: (N, D) float32, the answers before.

    Raises:
        ModelError: an answer differs by more than `RELOAD_TOLERANCE`.
    """
    difference = float(np.abs(saved.predict(texts) - expected).max())
    if not difference <= RELOAD_TOLERANCE:
        raise ModelError(
            f"the saved student answers differently from the trained one: by up to {difference:.2g}, "
            f"expected at most {RELOAD_TOLERANCE:g}"
        )


def copy_dimensions(
    source: Path, folder: Path, file: str, is_head: Callable[[str], bool], places: Sequence[int]
) -> None:
    """Copies a saved student with the dimensions at `places` alone, in their order.

    Args:
        source: the student's folder.
        folder: where to; made, or filled up.
        file: the one that holds the head's tensors.
        is_head: which of its tensors those are; they have a row for each output.
        places: the dimensions that stay.
    """
    shutil.copytree(source, folder, dirs_exist_ok=True)
    bins = read_bins(source)
    each = 1 if bins is None else len(bins)
    rows = [place * each + number for place in places for number in range(each)]
    stored = read_tensors(source / file)
    write_tensors(folder / file, {name: value[rows] if is_head(name) else value for name, value in stored.items()})


def _copy_tokenizer(source: Path, target: Path) -> None:
    """Copies a tokenizer without the truncation and padding that some are saved with."""
    tokenizer = Tokenizer.from_file(str(source))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    with replacing(target) as beside:
        tokenizer.save(str(beside), pretty=False)
