"""What a student must beat: the training mean, a bag of words with ridge regression, and word weights."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge

from distillery_runtime.spec.model import Window
from distillery_trainer.data.predictions import Answers, Decided
from distillery_trainer.models.heads import FEWEST_FINDS, absolute_errors
from distillery_trainer.models.protocol import FitData, HeadPlan
from distillery_trainer.models.selection import simplest
from distillery_trainer.models.static_embedder import StaticEmbedder
from distillery_trainer.models.word_weights import fit_words

ALPHAS = (10.0, 3.0, 1.0, 0.3)  # the strongest penalty is the simplest model
MAX_FEATURES = 100_000
LOGISTIC_STRENGTH = 1.0  # of the penalty of the find's regression, as its inverse

Matrix = NDArray[np.float64]


def constant(data: FitData, texts: Sequence[str]) -> Matrix:
    """Predicts each dimension's training mean for every text: (N, D)."""
    return np.tile(np.asarray(data.train_labels, np.float64).mean(axis=0), (len(texts), 1))


def constant_decided(data: FitData, texts: Sequence[str]) -> Decided:
    """The best constant answers: means as `expected`, medians as `scores`, no article selected."""
    medians = np.tile(np.median(np.asarray(data.train_labels, np.float64), axis=0), (len(texts), 1))
    finds = _finds(data)
    chance = np.full(len(texts), float(finds.mean()))
    return Decided(Answers(constant(data, texts), medians, chance), np.zeros(len(texts), bool))


def tfidf_ridge(data: FitData, texts: Sequence[str]) -> Matrix:
    """TF-IDF of words and word pairs with ridge regression, its penalty the plan's or chosen on validation.

    Training texts without a single word leave the constant.

    Returns:
        (N, D) in [0, 10]; with finds to learn from (N, D + 1), the last column the logit of a class-weighted logistic
        regression on the find itself.
    """
    vectorizer = _vectorizer(data.train_texts)
    if vectorizer is None:
        return constant(data, texts)
    train = vectorizer.transform(data.train_texts)
    alpha = data.plan.alpha if data.plan else _penalty(train, vectorizer.transform(data.val_texts), data)
    predicted = _ridge(alpha, train, data).predict(vectorizer.transform(texts)).reshape(len(texts), -1)
    clipped: Matrix = np.clip(predicted, 0, 10).astype(np.float64)
    finds = _finds(data)
    if min(int(finds.sum()), int((~finds).sum())) < FEWEST_FINDS:
        return clipped
    logistic = LogisticRegression(C=LOGISTIC_STRENGTH, class_weight="balanced", max_iter=1000).fit(train, finds)
    return np.concatenate([clipped, logistic.decision_function(vectorizer.transform(texts))[:, None]], axis=1)


def tfidf_plan(data: FitData) -> HeadPlan:
    """The penalty that `tfidf_ridge` chooses, for a fit that leaves no validation article out."""
    vectorizer = _vectorizer(data.train_texts)
    if vectorizer is None:
        return HeadPlan("ridge", ALPHAS[0], 1)
    train, val = (vectorizer.transform(texts) for texts in (data.train_texts, data.val_texts))
    return HeadPlan("ridge", _penalty(train, val, data), 1)


def _penalty(train: csr_matrix, val: csr_matrix, data: FitData) -> float:
    errors = [absolute_errors(_ridge(alpha, train, data).predict(val), data.val_labels) for alpha in ALPHAS]
    return ALPHAS[simplest(errors)]


def _ridge(alpha: float, train: csr_matrix, data: FitData) -> Ridge:
    # 'sparse_cg' starts from zero and is the same on every run; 'auto' may draw random numbers.
    return Ridge(alpha=alpha, solver="sparse_cg", tol=1e-4).fit(train, data.train_labels)


def static(data: FitData, texts: Sequence[str]) -> Matrix:
    """Word weights on the static tokenizer: what a static student of default settings begins with, not calibrated.

    Returns:
        (N, D) in [0, 10], or (N, D + 1) with a find column.
    """
    embedder = StaticEmbedder(Window())
    words = fit_words([row.ids for row in embedder.window.encode(data.train_texts)], embedder.rows, data)
    raw = words.predict([row.ids for row in embedder.window.encode(texts)]).astype(np.float64)
    count = data.train_labels.shape[1]
    return np.concatenate([np.clip(raw[:, :count], 0, 10), raw[:, count:]], axis=1)


def _finds(data: FitData) -> NDArray[np.bool_]:
    """Which training articles are finds; none where that is not told."""
    count = len(data.train_labels)
    return data.find_of(data.train_labels) >= 0 if data.find_of else np.zeros(count, np.bool_)


def _vectorizer(texts: Sequence[str]) -> TfidfVectorizer | None:
    """Fitted on terms of at least two texts, or of one where no two texts share any; None where there is no term."""
    for min_df in (2, 1):
        try:
            options = {"ngram_range": (1, 2), "sublinear_tf": True, "max_features": MAX_FEATURES}
            return TfidfVectorizer(min_df=min_df, **options).fit(texts)
        except ValueError:  # scikit-learn's word for an empty vocabulary
            continue
    return None
