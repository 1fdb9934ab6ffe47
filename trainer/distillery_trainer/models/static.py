"""The static student, and a probe of the same kind: word weights, where better beside a table that learnt with an MLP.

Neither torch nor a download.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distillery_runtime.errors import InputError, Problem
from distillery_runtime.spec.model import ProbeSettings, StaticSettings, Window
from distillery_runtime.tokens.window import TokenWindow
from distillery_trainer.data.predictions import MAKE_AGAIN
from distillery_trainer.models.heads import Head, absolute_errors, load_head, save_head
from distillery_trainer.models.protocol import FitData, HeadPlan, Progress
from distillery_trainer.models.selection import is_better
from distillery_trainer.models.static_embedder import TABLE_FILES, StaticEmbedder, copy_tokenizer, save_table
from distillery_trainer.models.static_tuning import Words, count_tokens, tune
from distillery_trainer.models.word_weights import PENALTY, WordWeights, fit_words
from distillery_trainer.store.files import write_json

WORDS, TUNED = "words", "tuned"  # the kinds of a static model, the simplest first
WORDS_FILE, HEAD_FILE = "words.safetensors", "head.safetensors"
WORDS_SHARE = 0.25  # of the word weights in the scores of a tuned student; its finds are theirs alone


@dataclass(frozen=True, slots=True)
class StaticStudent:
    """Word weights, and of a tuned student a table with the head on it, whose raw outputs are added.

    The head of a tuned student gives zeros for the find column, if there is one.
    """

    window: TokenWindow
    words: WordWeights
    embedder: StaticEmbedder | None = None
    head: Head | None = None

    def predict(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Raw outputs: (N, D) float32, or (N, D + 1) with a find column, rows in the order of `texts`."""
        raw = self.words.predict([row.ids for row in self.window.encode(texts)])
        if self.embedder is None or self.head is None:
            return raw
        return raw + self.head.predict(self.embedder.embed(texts))


def fit(
    settings: StaticSettings | ProbeSettings,
    window: Window,
    data: FitData,
    folder: Path,
    seed: int,
    progress: Progress | None,
) -> None:
    """Writes tokenizer, weights and what was chosen into `folder`.

    With `tune` in the settings a table is trained together with an MLP too, and three parts of its scores joined with
    one of the word weights', where that is better than the weights alone (`selection`). With a plan only the kind of
    the plan is fitted.
    """
    folder.mkdir(parents=True, exist_ok=True)
    copy_tokenizer(folder)
    embedder = StaticEmbedder(window)
    ids = [row.ids for row in embedder.window.encode([*data.train_texts, *data.val_texts])]
    count, width = len(data.train_texts), data.train_labels.shape[1]
    words, plan = fit_words(ids[:count], embedder.rows, data), data.plan or HeadPlan(WORDS, PENALTY, 1)
    if plan.kind == WORDS and (data.plan or not settings.tune):
        _write(folder, words, {} if data.plan else {WORDS: _mae(words.predict(ids[count:])[:, :width], data)}, plan)
        return
    table = embedder.rows
    tuned = tune(table, _counted(ids, table, data), settings.hidden, settings.training, seed, progress)
    joined, head = _joined(words, tuned.head, width)
    save_table(tuned.table, folder)
    save_head(head, folder / HEAD_FILE)
    if data.plan:
        _write(folder, joined, {}, plan)
        return
    joined.save(folder / WORDS_FILE)
    both = load(folder, window).predict(data.val_texts)[:, :width]
    alone = words.predict(ids[count:])[:, :width]
    val_mae = {WORDS: _mae(alone, data), TUNED: _mae(both, data)}
    if is_better(absolute_errors(both, data.val_labels), absolute_errors(alone, data.val_labels)):
        _write(folder, joined, val_mae, replace(plan, kind=TUNED, epochs=tuned.epochs))
        return
    for path in (folder / HEAD_FILE, folder / TABLE_FILES[0]):
        path.unlink()
    _write(folder, words, val_mae, plan)


def load(folder: Path, window: Window) -> StaticStudent:
    """Reads what `fit` wrote.

    Raises:
        InputError: an earlier version wrote it.
    """
    if not (folder / WORDS_FILE).is_file():
        raise InputError(str(folder), [Problem(WORDS_FILE, "missing", MAKE_AGAIN)])
    tokens, words = TokenWindow(folder / TABLE_FILES[1], window), WordWeights.load(folder / WORDS_FILE)
    if not (folder / HEAD_FILE).is_file():
        return StaticStudent(tokens, words)
    return StaticStudent(tokens, words, StaticEmbedder(window, folder), load_head(folder / HEAD_FILE))


def _joined(words: WordWeights, head: Head, width: int) -> tuple[WordWeights, Head]:
    """Word weights and a head on a tuned table whose sum has both in its scores, and the weights' find column alone."""
    finds = len(words.bias) - width
    share = np.array([WORDS_SHARE] * width + [1.0] * finds)
    rows = words.table.astype(np.float64) * words.scale[:, None]
    *hidden, (weight, bias) = head.layers
    weight = np.pad((1 - WORDS_SHARE) * weight, ((0, finds), (0, 0))).astype(np.float32)
    bias = np.pad((1 - WORDS_SHARE) * bias, (0, finds)).astype(np.float32)
    return WordWeights.of(rows * share, words.bias * share), replace(head, layers=(*hidden, (weight, bias)))


def _counted(ids: Sequence[NDArray[np.int64]], table: NDArray[np.float32], data: FitData) -> Words:
    count = len(data.train_texts)
    train, val = count_tokens(ids[:count], table), count_tokens(ids[count:], table)
    weights = np.ones_like(data.train_labels) if data.train_weights is None else data.train_weights
    return Words(train, data.train_labels, val, data.val_labels, weights, data.plan)


def _mae(predicted: NDArray[np.float32], data: FitData) -> float:
    return round(float(absolute_errors(predicted, data.val_labels).mean()), 6)


def _write(folder: Path, words: WordWeights, val_mae: dict[str, float], plan: HeadPlan) -> None:
    words.save(folder / WORDS_FILE)
    write_json(folder / "head.json", {"val_mae": val_mae, **asdict(plan)})
