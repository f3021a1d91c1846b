"""The gradient of every loss against finite differences of NumPy in float64.

Where a formula of maxima and absolute values is right and its gradient is not: at 0, at ties, far
out. `tests/test_backends.py` runs this file on the other backends.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from tests.losses import test_any_batch as contrastive
from tests.losses import test_statistical as features
from tests.losses.backend_gradients import gradients
from vatt_tf.losses import classification, statistical
from vatt_tf.losses.contrastive import DENOMINATORS
from vatt_tf.losses.objective import ObjectiveConfig, objective


def differences(loss, values, places, step):
    """Slopes of a float64 function at some places of some arrays."""
    values = {name: np.array(value, np.float64) for name, value in values.items()}
    found = []
    for name, place in places:
        kept, sides = values[name][place], []
        for side in (step, -step):
            values[name][place] = kept + side
            sides.append(loss(values))
        values[name][place] = kept
        found.append((sides[0] - sides[1]) / (2 * step))
    return np.array(found)


def check(loss, reference, values, step=1e-6, most=40):
    value, slopes = gradients(loss, values)
    assert value == pytest.approx(reference(values), rel=1e-4, abs=1e-5)
    places = [(name, place) for name, x in values.items() for place in np.ndindex(x.shape)]
    places = places[:: -(-len(places) // most)]
    expected = differences(reference, values, places, step)
    found = np.array([slopes[name][place] for name, place in places])
    np.testing.assert_allclose(found, expected, atol=2e-4 * max(1.0, np.abs(expected).max()))


ROW = [0.0, 0.0, 1e-4, -1e-4, 2.5, 2.5, 80.0, -80.0]
LOGITS = np.array([ROW, [0.0] * 8, [80.0] * 8, [-80.0] * 8, [80.0, -80.0] * 4], "float32")


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("name", ["sigmoid", "softmax"])
def test_cross_entropies(name, smoothing):
    labels = np.tile(np.eye(8)[0] + (np.arange(8) % 3 == 1 if name == "sigmoid" else 0), (5, 1))
    labels = labels * (1 - smoothing) + smoothing / 8

    def loss(values):
        losses = getattr(classification, f"{name}_cross_entropy")(
            values["logits"], labels.astype("float32")
        )
        return ops.sum(losses)

    def reference(values):
        x = np.asarray(values["logits"], np.float64)
        if name == "softmax":
            return -(labels * (x - np.logaddexp.reduce(x, axis=1, keepdims=True))).sum()
        return (labels * np.logaddexp(0, -x) + (1 - labels) * np.logaddexp(0, x)).sum()

    check(loss, reference, {"logits": LOGITS})


@pytest.mark.parametrize("denominator", DENOMINATORS)
@pytest.mark.parametrize("kind", ["random", "equal", "same", "zero", "far"])
def test_contrastive_losses(kind, denominator):
    shapes = {"video": (4, 3), "audio": (4, 3), "text": (4, 2, 3)}
    rng = np.random.default_rng(0)
    values = {name: rng.normal(size=shape).astype("float32") for name, shape in shapes.items()}
    if kind == "equal":
        values = {name: np.ones(shape, "float32") for name, shape in shapes.items()}
    elif kind == "same":  # one embedding a clip: rows and columns have equal sums
        values["video"] = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [-1, 0, 0]], "float32")
        values["audio"] = values["video"].copy()
        values["text"] = np.stack([values["video"]] * 2, axis=1)
    elif kind == "zero":
        values["audio"][0] = values["text"][1, 1] = values["text"][2] = 0.0
    elif kind == "far":  # scores of 80 and -80
        values["video"] = np.array([[1, 0, 0], [-1, 0, 0]] * 2, "float32")
        values["audio"], values["text"] = values["video"].copy(), -values["text"]
    temperature = {"far": 1 / 80, "same": 1.0}.get(kind, 0.1)
    config = ObjectiveConfig(temperature=temperature, denominator=denominator)
    masks = {name: np.ones(shape[:-1], "float32") for name, shape in shapes.items()}
    if kind not in ("equal", "same"):
        masks["audio"][3] = masks["text"][0, 1] = 0.0

    def loss(values):
        spaces = {"vat": values}
        return objective(spaces, spaces, masks, masks, config)[0]

    def reference(values):
        return sum(contrastive.reference(values, masks, config).values())

    # Behind its epsilon the length of a zero vector is 1e-6.
    check(loss, reference, values, step=1e-10 if kind == "zero" else 1e-6)


@pytest.mark.parametrize("loss_of", statistical.STATISTICS)
@pytest.mark.parametrize("kind", ["random", "equal", "zero", "far"])
def test_statistical_losses(kind, loss_of):
    """With the mixture as it stands: it is fitted without gradient."""
    values, masks = features.batch()
    if kind != "random":
        level = {"equal": 1.0, "zero": 0.0, "far": 80.0}[kind]
        signs = np.sign(values["video"]) if kind == "far" else 1.0
        values = {name: np.full_like(x, level) for name, x in values.items()}
        values["video"] *= signs
    fitted = None
    if loss_of == "mixture":
        rows = statistical.standardise(values, masks)
        start = statistical.start_of_mixture(rows, masks, 3)
        parts = statistical.fit_mixture(rows, masks, *start)
        fitted = [keras.ops.convert_to_numpy(x).astype(np.float64) for x in parts]

    def reference(values):
        rows = features.numpy_standardise(values, masks)
        if fitted is None:
            return features.numpy_moments(rows, masks)
        return features.numpy_likelihood(rows, masks, *fitted) / features.WIDTH

    def loss(values):
        return statistical.statistical_loss(values, masks, loss_of, 3)

    check(loss, reference, values, step=1e-5, most=9)
