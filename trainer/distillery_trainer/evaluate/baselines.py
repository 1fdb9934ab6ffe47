"""What a student must beat: the training mean, a bag of words with ridge regression, and the static token table."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge

from distillery_runtime.spec.model import HeadTraining, Window
from distillery_trainer.models.heads import HeadData, absolute_errors, fit_head
from distillery_trainer.models.protocol import FitData
from distillery_trainer.models.selection import simplest
from distillery_trainer.models.static_embedder import StaticEmbedder

ALPHAS = (10.0, 3.0, 1.0, 0.3)  # the strongest penalty is the simplest model
MAX_FEATURES = 100_000
HIDDEN = (64,)

Matrix = NDArray[np.float64]


def constant(data: FitData, texts: Sequence[str]) -> Matrix:
    """Predicts each dimension's training mean for every text: (N, D)."""
    return np.tile(np.asarray(data.train_labels, np.float64).mean(axis=0), (len(texts), 1))


def tfidf_ridge(data: FitData, texts: Sequence[str]) -> Matrix:
    """TF-IDF of words and word pairs with ridge regression, its penalty chosen on validation: (N, D) in [0, 10].

    Training texts without a single word leave the constant.
    """
    vectorizer = _vectorizer(data.train_texts)
    if vectorizer is None:
        return constant(data, texts)
    train = vectorizer.transform(data.train_texts)
    val = vectorizer.transform(data.val_texts)
    # 'sparse_cg' starts from zero and is the same on every run; 'auto' may draw random numbers.
    models = [Ridge(alpha=alpha, solver="sparse_cg", tol=1e-4).fit(train, data.train_labels) for alpha in ALPHAS]
    chosen = models[simplest([absolute_errors(model.predict(val), data.val_labels) for model in models])]
    predicted = chosen.predict(vectorizer.transform(texts)).reshape(len(texts), -1)
    clipped: Matrix = np.clip(predicted, 0, 10).astype(np.float64)
    return clipped


def static(data: FitData, texts: Sequence[str], seed: int) -> Matrix:
    """A head on the static token table's embeddings as they come, not calibrated: (N, D) in [0, 10].

    With the same settings whatever the filter says of its own static student: the same baseline in every run.
    """
    embedder = StaticEmbedder(Window())
    train, val = embedder.embed(data.train_texts), embedder.embed(data.val_texts)
    rows = HeadData(train, data.train_labels, val, data.val_labels, data.train_weights)
    head = fit_head(rows, HIDDEN, HeadTraining(), seed).head
    return np.clip(head.predict(embedder.embed(texts)), 0, 10).astype(np.float64)


def _vectorizer(texts: Sequence[str]) -> TfidfVectorizer | None:
    """Fitted on terms of at least two texts, or of one where no two texts share any; None where there is no term."""
    for min_df in (2, 1):
        try:
            options = {"ngram_range": (1, 2), "sublinear_tf": True, "max_features": MAX_FEATURES}
            return TfidfVectorizer(min_df=min_df, **options).fit(texts)
        except ValueError:  # scikit-learn's word for an empty vocabulary
            continue
    return None
