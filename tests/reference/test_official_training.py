"""Three optimizer steps and gradients of the released code.

BatchNorm over four clips, with units whose squared mean is 500 times their variance, makes these
records sensitive: evaluated in float64, the same formulas differ from the recorded float32 values
by up to 2.7e-5 (embeddings of the video) and 4.6e-5 (gradients, of the largest one). The tolerances
here are 1e-5 where the record is that exact and its own rounding where it is not.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.reference.test_official_forward import close, convert, inputs_of
from vatt_tf.losses.objective import ObjectiveConfig, objective
from vatt_tf.pretrained.official_names import model_keys
from vatt_tf.training.gradients.contrastive import PretrainStep

OBJECTIVE = ObjectiveConfig(denominator="joint_positive_twice", average=True)
LOSSES = {"video_audio": "vidaud_loss", "video_text": "vidtxt_loss"}
# Rounding of the records themselves, measured against float64 (see above).
EMBEDDING_TOLERANCE = {"tx_fac": 1.2e-5, "ut_fac": 4e-5}
GRADIENT_TOLERANCE = {"tx_fac": 2.5e-5, "ut_fac": 6e-5}
LAST_LOSS_TOLERANCE = {"tx_fac": 1e-5, "ut_fac": 5e-5}
# The second and third update follow the signs of gradients that are rounding: 7e-6 with AVX2 and
# 1.2e-5 with AVX-512 between the embeddings after them (float64: 8e-4).
AFTER_TOLERANCE = 3e-5


@pytest.fixture(params=["tx_fac", "ut_fac"])
def case(request, shared_dir):
    """(name, our model, batch, masks, reference, training record)."""
    folder = shared_dir / "reference" / "official_vatt" / request.param
    reference = np.load(folder / "reference.npz")
    record = np.load(folder / "reference_training_mode.npz")
    text = np.repeat(reference["mask_text"][:, None], 3, axis=1)
    masks = {
        "video": np.ones(4, np.float32),
        "audio": reference["mask_audio"],
        "text": text,
    }
    model = convert(folder, f"{request.param}.gin")
    return request.param, model, inputs_of(reference), masks, reference, record


def recorded(record, prefix, variable):
    return np.concatenate([record[f"{prefix}/{key}"] for key in model_keys(variable.path)], -1)


def check_gradients(gradients, variables, record, prefix, tolerance):
    expected = [recorded(record, prefix, variable) for variable in variables]
    scale = max(np.abs(value).max() for value in expected)
    for variable, gradient, value in zip(variables, gradients, expected, strict=True):
        error = np.abs(np.asarray(gradient) - value).max() / scale
        assert error <= tolerance, f"{variable.path}: {error:.2e} of the largest gradient"


def check_losses(metrics, record, step, tolerance=1e-5):
    for name, official in LOSSES.items():
        path = f"step{step}/loss_fn/bridge_losses/asymmetric_nce/{official}"
        # The scale is that of the total: the parts trade against each other.
        total = float(record[f"step{step}/loss_fn/total_loss"])
        assert abs(float(metrics[name]) - float(record[path])) <= tolerance * total * 2
    assert abs(float(metrics["total"]) - total) <= tolerance * total


def test_gradients_without_batch_statistics(case):
    name, model, batch, masks, reference, _ = case
    variables = model.trainable_variables
    with tf.GradientTape() as tape:
        spaces = model(batch, training=False)
        loss, _ = objective(spaces, spaces, masks, masks, OBJECTIVE)
    gradients = tape.gradient(loss, [v.value for v in variables], unconnected_gradients="zero")
    gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
    check_gradients(gradients, variables, reference, "grad_infer", 1e-5)
    close(loss, reference["loss/asym/masked/total"])


def test_three_training_steps(case):
    """With the step that trains: gradients, losses, statistics; Adam follows the record.

    Adam's first step moves every weight by the learning rate in the direction of its gradient's
    sign. The first update takes the recorded gradients, because the signs of the smallest ones are
    rounding in the record and in any other computation.
    """
    name, model, batch, masks, _, record = case
    step = PretrainStep(model, OBJECTIVE)
    adam = keras.optimizers.Adam(1e-3, epsilon=1e-7)
    adam.build(step.variables)
    batch = {key: tf.constant(value) for key, value in batch.items()}
    batch |= {f"{key}_mask": tf.constant(value) for key, value in masks.items()}
    norms = [variable for variable in model.head.weights if "moving_" in variable.path]
    key = tf.constant([0, 0], tf.int32)
    for number in range(3):
        if number == 0:
            values = [np.asarray(variable) for variable in norms]
            spaces = model({k: batch[k] for k in ("video", "audio", "text")}, training=True)
            tolerance = EMBEDDING_TOLERANCE[name]
            prefix = "step0/output/head_stack/bridge"
            close(spaces["va"]["video"], record[f"{prefix}/video/toaud"], tolerance)
            close(spaces["vt"]["video"], record[f"{prefix}/video/totxt"], tolerance)
            close(spaces["va"]["audio"], record[f"{prefix}/audio/tovid"])
            text = np.reshape(spaces["vt"]["text"], (12, -1))
            close(text, record[f"{prefix}/text/tovid"])
            for variable, value in zip(norms, values, strict=True):
                variable.assign(value)
        gradients, metrics = step(batch, key)
        metrics = {name.removeprefix("loss/"): value for name, value in metrics.items()}
        metrics["total"] = metrics.pop("loss")
        check_losses(metrics, record, number, LAST_LOSS_TOLERANCE[name] if number == 2 else 1e-5)
        if number == 0:
            check_gradients(
                gradients, step.variables, record, "step0/grad", GRADIENT_TOLERANCE[name]
            )
            gradients = [
                tf.constant(recorded(record, "step0/grad", variable)) for variable in step.variables
            ]
        if number < 2:  # The third one also holds what rounding did to the second update.
            for variable in norms:
                close(variable, recorded(record, f"after_step{number}", variable))
        adam.apply(gradients, step.variables)
    # Audio and text see no BatchNorm: their towers are where the released code's are.
    spaces = model({k: batch[k] for k in ("audio", "text")})
    close(
        spaces["va"]["audio"],
        record["after3/output/head_stack/bridge/audio/tovid"],
        AFTER_TOLERANCE,
    )
    text = np.reshape(spaces["vt"]["text"], (12, -1))
    close(text, record["after3/output/head_stack/bridge/text/tovid"], AFTER_TOLERANCE)
