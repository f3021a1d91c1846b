"""The compiled chains against their plain twins: values and gradients, with the same masks."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from vatt_tf.layers.fusion import MaskKey, computed_mask, gelu_dropped, softmax_dropped
from vatt_tf.layers.recompute import recompute
from vatt_tf.training.gradients.compilation import compiler_of

KEY, RATE, SHAPE = (3, 4), 0.3, (2, 3, 5, 7)
CHAINS = {
    "gelu": lambda values, kept, dtype: gelu_dropped(values, kept, 1.25),
    "softmax": lambda values, kept, dtype: softmax_dropped(tf.cast(values, "float32"), kept, dtype),
}


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("again", [False, True])
def test_compiled_is_plain(chain, dtype, again):
    random = np.random.default_rng(0)
    values = tf.cast(random.normal(size=SHAPE), dtype)
    upstream = tf.cast(random.normal(size=SHAPE), dtype)
    key = MaskKey(tf.constant(KEY), RATE, compiler_of(False))
    mask = computed_mask(tf.constant(KEY), SHAPE, RATE)
    assert 0.5 < np.mean(mask) < 0.9

    @tf.function
    def outputs_and_gradient(kept):
        with tf.GradientTape() as tape:
            tape.watch(values)
            outputs = recompute(lambda v: CHAINS[chain](v, kept, dtype), values, training=again)
        return outputs, tape.gradient(outputs, values, output_gradients=upstream)

    tolerance = 1e-5 if dtype == "float32" else 0.02
    for found, expected in zip(outputs_and_gradient(key), outputs_and_gradient(mask), strict=True):
        assert found.dtype == expected.dtype == dtype
        found, expected = tf.cast(found, "float32"), tf.cast(expected, "float32")
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def test_gelu_of_a_closed_form():
    values = np.linspace(-4, 4, 9).astype("float32")
    normal = [0.5 * (1 + float(tf.math.erf(value / 2**0.5))) for value in values.astype(float)]
    np.testing.assert_allclose(gelu_dropped(values, None, 1.0), values * normal, atol=1e-6)
