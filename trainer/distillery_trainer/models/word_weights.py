"""Word weights: what each token of a text adds to each output, as one table. A linear student, fitted by a ridge.

A text's output k is bias[k] + sum over its tokens t of table[t, k] / sqrt(T), for T tokens. The ridge sees a text in
two ways, which count alike: its tokens by TF-IDF, where each has a weight of its own, and the sum of their rows in the
static token table, by which tokens of like meaning get like weights, those that no label has met too. Both are sums
over tokens, so that one weight a token is left of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_array, hstack
from sklearn.linear_model import Ridge

from distillery_runtime.files.safe_write import replacing
from distillery_trainer.models.heads import Matrix, find_bars
from distillery_trainer.models.protocol import FitData

# Texts' features have length 1 on average. Over ten tasks of 800 to 5,442 texts neither ranks nor errors differed by
# more than .01 between .2 and .5: there is nothing to choose.
PENALTY = 0.3
FEWEST_TEXTS, MOST_TEXTS = 3, 0.4  # a token of fewer texts, or of a larger share of them, has no weight of its own
NEAR = -0.5  # score points below a find from where on an article counts more
TOLERANCE = 1e-4  # of the conjugate gradients, relative to the right-hand side

Numbers = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class WordWeights:
    """`table`: (V, K) int8 and `scale`: (V,) float32, token t adds table[t] * scale[t]; `bias`: (K,) float32."""

    table: NDArray[np.int8]
    scale: Matrix
    bias: Matrix

    @classmethod
    def of(cls, rows: Floats, bias: Floats) -> "WordWeights":
        """Rounds rows (V, K) to symmetric int8 with one scale a row, half a step of it off at most."""
        scale = (np.abs(rows).max(axis=1) / 127).astype(np.float32)
        table = np.rint(rows / np.where(scale == 0, 1, scale)[:, None]).astype(np.int8)
        return cls(table, scale, bias.astype(np.float32))

    def predict(self, ids: Sequence[Numbers]) -> Matrix:
        """Outputs, (N, K) float32, of N texts' token ids."""
        sums = [self.scale[own] @ self.table[own].astype(np.float32) / np.sqrt(max(len(own), 1)) for own in ids]
        return (np.stack(sums) + self.bias if sums else np.zeros((0, len(self.bias)))).astype(np.float32)

    def save(self, path: Path) -> None:
        """Writes them as safetensors."""
        with replacing(path) as beside:
            save_file({"table": self.table, "scale": self.scale, "bias": self.bias}, beside)

    @classmethod
    def load(cls, path: Path) -> "WordWeights":
        """Reads what `save` wrote."""
        tensors = load_file(path)
        return cls(tensors["table"], tensors["scale"], tensors["bias"])


def fit_words(ids: Sequence[Numbers], rows: Matrix, data: FitData) -> WordWeights:
    """Fits word weights: D columns of scores and, where there are finds enough to learn from, one of finds.

    Finds are few; who comes near to being one says what leads there. So the find column learns how many of the bars of
    `heads.FIND_BARS` an article reaches, half a point each, and by how much it is above one point below a find.
    Articles that are near to being one count by the square root of how much rarer they are.

    Args:
        ids: token ids of the training texts.
        rows: (V, H) float32, the static token table; zeros for a token that it does not know.
        data: the texts' labels and weights, and which are finds.
    """
    features = _Features.of(_counts(ids, rows), rows)
    weights = np.ones(len(ids)) if data.train_weights is None else data.train_weights.mean(axis=1, dtype=np.float64)
    models = [_ridge(features.values, data.train_labels, weights)]
    margins = data.find_of(data.train_labels) if data.find_of else np.zeros(0)
    if bars := find_bars(margins):
        models.append(_ridge(features.values, _find_target(margins, bars), weights * _balance(margins >= NEAR)))
    coefficients = np.concatenate([np.atleast_2d(model.coef_) for model in models])
    intercepts = np.concatenate([np.atleast_1d(model.intercept_) for model in models])
    return WordWeights.of(*features.folded(coefficients, intercepts, rows))


@dataclass(frozen=True, slots=True)
class _Features:
    """What the ridge sees of N texts, and what folds its coefficients into a weight a token.

    `values`: (N, H + W), sums of the table's rows, centred, and the TF-IDF of those W tokens that have weights of their
    own. `centre`: (H,). `rows_scale`: what the sums were multiplied by. `own`: (W,) the tokens. `idf`: (W,), scaled.
    """

    values: csr_array
    centre: Floats
    rows_scale: float
    own: Numbers
    idf: Floats

    @classmethod
    def of(cls, counts: csr_array, rows: Matrix) -> "_Features":
        """Of counts (N, V) over the square root of a text's tokens."""
        texts, count = np.bincount(counts.indices, minlength=counts.shape[1]), counts.shape[0]
        own = np.flatnonzero((texts >= FEWEST_TEXTS) & (texts <= MOST_TEXTS * count))
        idf = np.log((1 + count) / (1 + texts[own])) + 1
        words = csr_array(counts[:, own] * idf)
        words_scale = _scale(np.asarray(words.power(2).sum(axis=1)))
        sums = np.asarray(counts @ rows.astype(np.float64))
        centre = sums.mean(axis=0)
        rows_scale = _scale(np.square(sums - centre).sum(axis=1))
        values = csr_array(hstack([csr_array((sums - centre) * rows_scale), words * words_scale]))
        return cls(values, centre, rows_scale, own, idf * words_scale)

    def folded(self, coefficients: Floats, intercepts: Floats, rows: Matrix) -> tuple[Floats, Floats]:
        """A weight for each token, (V, K), and a bias, (K,), from coefficients (K, H + W) and intercepts (K,)."""
        width = len(self.centre)
        of_rows = coefficients[:, :width].T * self.rows_scale
        weights = rows.astype(np.float64) @ of_rows
        weights[self.own] += self.idf[:, None] * coefficients[:, width:].T
        return weights, intercepts - self.centre @ of_rows


def _scale(squares: Floats) -> float:
    """What features are multiplied by so that their squared length is one half on average; 1 where they are zeros."""
    mean = float(squares.mean())
    return float(np.sqrt(0.5 / mean)) if mean > 0 else 1.0


def _counts(ids: Sequence[Numbers], rows: Matrix) -> csr_array:
    """How often each token that the table knows is in a text, over the square root of its tokens: (N, V)."""
    known = np.asarray(rows.any(axis=1))
    kept = [own[known[own]] for own in ids]
    flat = np.concatenate([np.zeros(0, np.int64), *kept])
    values = np.repeat([1 / np.sqrt(max(len(own), 1)) for own in ids], [len(own) for own in kept])
    found = csr_array((values, flat, np.cumsum([0, *map(len, kept)])), shape=(len(ids), len(rows)))
    found.sum_duplicates()
    return found


def _ridge(seen: csr_array, labels: NDArray[np.floating], weights: Floats) -> Ridge:
    """Conjugate gradients from zero: the same on every run, and exact to `TOLERANCE` on any processor."""
    return Ridge(alpha=PENALTY, solver="sparse_cg", tol=TOLERANCE).fit(seen, labels, sample_weight=weights)


def _find_target(margins: Floats, bars: Sequence[float]) -> Floats:
    """What the find column learns, (N,), by how much articles are above where finds begin."""
    target: Floats = 0.5 * (margins[:, None] >= bars).sum(axis=1) + np.maximum(0, margins + 1)
    return target


def _balance(near: NDArray[np.bool_]) -> Floats:
    """What articles count, 1 on average: all alike where all or none are near."""
    share = float(near.mean())
    if not 0 < share < 1:
        return np.ones(len(near))
    weights = np.where(near, np.sqrt((1 - share) / share), 1.0)
    balanced: Floats = weights / weights.mean()
    return balanced
