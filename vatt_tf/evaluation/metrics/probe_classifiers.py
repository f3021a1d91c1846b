"""The classifiers of the probe: fit on features [n, d] and classes [n], score other features."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from vatt_tf.unit_length import l2_normalize

# VATT, A.3.2.
LOW_RANK_COMPONENTS = 128
LOW_RANK_KEPT = 0.1
LOW_RANK_STEPS = 50_000
LOW_RANK_BATCH = 64
LOW_RANK_RATE = 5e-4
NEIGHBOUR_TEMPERATURE = 0.07

# Name and values of what is chosen on held-out clips. MMV's values of C are 1e-4 to 1e-3.
GRIDS: dict[str, tuple[str, tuple[float, ...]]] = {
    "logistic": ("C", (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)),
    "svm": ("C", (1e-5, 1e-4, 3e-4, 1e-3, 1e-2, 1e-1, 1.0)),
    "knn": ("neighbours", (1, 3, 5, 10, 20)),
}

Scores = Callable[[np.ndarray], np.ndarray]


def fit_logistic(features: np.ndarray, truth: np.ndarray, classes: int, c: float) -> Scores:
    """Logistic regression on standardised features; its scores are probabilities."""
    from sklearn.linear_model import LogisticRegression

    return _standardised(LogisticRegression(C=c, max_iter=1000), features, truth).predict_proba


def fit_svm(features: np.ndarray, truth: np.ndarray, classes: int, c: float) -> Scores:
    """Linear SVM on standardised features, one class against the rest; scores are its margins."""
    from sklearn.svm import LinearSVC

    model = _standardised(LinearSVC(C=c, dual="auto", random_state=0), features, truth)

    def scores(values: np.ndarray) -> np.ndarray:
        margin = model.decision_function(values)
        return np.stack([-margin, margin], axis=1) if margin.ndim == 1 else margin

    return scores


def _standardised(classifier: Any, features: np.ndarray, truth: np.ndarray) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    with warnings.catch_warnings():
        # At the weak end of the grid the last digits do not settle; the choice of C decides.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return make_pipeline(StandardScaler(), classifier).fit(features, truth)


def fit_low_rank(
    features: np.ndarray,
    truth: np.ndarray,
    classes: int,
    setting: None,
    *,
    steps: int = LOW_RANK_STEPS,
    seed: int = 0,
) -> Scores:
    """The paper's low-rank classifier W = U V (VATT, A.3.2); its scores are probabilities.

    U is d x 128, V is 128 x classes. Each step uses a random tenth of the components, scaled up
    as dropout does; scoring uses all of them. Adam, rate 5e-4, batch 64. The features are
    standardised first.

    Args:
        features: float32 [n, d].
        truth: int64 [n].
        classes: Number of classes.
        setting: Nothing is chosen.
        steps: Optimizer steps (paper: 50,000).
        seed: Seed of weights, batches and components.
    """
    import keras
    import tensorflow as tf

    generator = keras.random.SeedGenerator(seed)
    normal = keras.initializers.GlorotNormal
    model = keras.Sequential(
        [
            keras.Input(features.shape[1:]),
            keras.layers.Dense(
                LOW_RANK_COMPONENTS, use_bias=False, kernel_initializer=normal(seed)
            ),
            # One draw of the components for the whole batch.
            keras.layers.Dropout(
                1 - LOW_RANK_KEPT, noise_shape=(1, LOW_RANK_COMPONENTS), seed=seed
            ),
            keras.layers.Dense(classes, kernel_initializer=normal(seed + 1)),
        ]
    )
    optimizer = keras.optimizers.Adam(LOW_RANK_RATE)
    optimizer.build(model.trainable_variables)
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    deviation = np.where(deviation > 0, deviation, 1.0)
    inputs = tf.constant((features - mean) / deviation)
    targets = tf.constant(truth)

    @tf.function
    def train() -> None:
        for _ in tf.range(steps):
            rows = keras.random.randint((LOW_RANK_BATCH,), 0, len(features), seed=generator)
            with tf.GradientTape() as tape:
                logits = model(tf.gather(inputs, rows), training=True)
                loss = keras.losses.sparse_categorical_crossentropy(
                    tf.gather(targets, rows), logits, from_logits=True
                )
                loss = tf.reduce_mean(loss)
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))

    train()

    def scores(values: np.ndarray) -> np.ndarray:
        logits = model((values - mean) / deviation, training=False)
        return np.asarray(keras.ops.softmax(logits), np.float64)

    return scores


def fit_knn(features: np.ndarray, truth: np.ndarray, classes: int, neighbours: float) -> Scores:
    """Nearest training examples by cosine, weighted by exp(cosine / 0.07); scores sum to 1."""
    known = l2_normalize(features)
    member = np.eye(classes)[truth]
    count = min(int(neighbours), len(known))

    def scores(values: np.ndarray) -> np.ndarray:
        similar = l2_normalize(values).astype(np.float64) @ known.T.astype(np.float64)
        nearest = np.argsort(-similar, axis=1, kind="stable")[:, :count]
        cosine = np.take_along_axis(similar, nearest, axis=1)
        weights = np.exp((cosine - cosine[:, :1]) / NEIGHBOUR_TEMPERATURE)
        votes = np.einsum("nk,nkc->nc", weights, member[nearest])
        return votes / votes.sum(axis=1, keepdims=True)

    return scores


FITS: dict[str, Callable[..., Scores]] = {
    "logistic": fit_logistic,
    "svm": fit_svm,
    "low_rank": fit_low_rank,
    "knn": fit_knn,
}
