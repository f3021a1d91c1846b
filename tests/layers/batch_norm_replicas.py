"""Batch normalisation of images on two replicas that hold unlike numbers of rows.

Logical devices must be set up before TensorFlow starts, hence the process. Prints the largest
differences to NumPy in one JSON line.
"""

import json

import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

from tests.layers.test_batch_norm import normed  # noqa: E402
from vatt_tf.layers.batch_norm import batch_norm  # noqa: E402


def main():
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    rng = np.random.default_rng(0)
    inputs = [rng.normal(2.0, 3.0, (rows, 5, 4, 6)).astype("float32") for rows in (2, 5)]
    upstream = [rng.normal(size=part.shape).astype("float32") for part in inputs]
    with strategy.scope():
        layer = batch_norm("float32", "norm")
        layer.build((None, 5, 4, 6))

    def step(part, weights):
        with tf.GradientTape() as tape:
            tape.watch(part)
            outputs = layer(part, training=True)
        return outputs, tape.gradient(outputs, part, output_gradients=weights)

    def distributed(parts):
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(parts[context.replica_id_in_sync_group])
        )

    run = tf.function(lambda *parts: strategy.run(step, args=parts), autograph=False)
    outputs, gradient = (
        np.concatenate([np.asarray(part) for part in strategy.experimental_local_results(parts)])
        for parts in run(distributed(inputs), distributed(upstream))
    )
    whole = np.concatenate(inputs).astype("float64")
    expected, expected_gradient = normed(whole, np.concatenate(upstream))
    differences = {
        "outputs": outputs - expected,
        "gradient": gradient - expected_gradient,
        "mean": layer.moving_mean - 0.1 * whole.mean((0, 1, 2)),
        "variance": layer.moving_variance - 0.9 - 0.1 * whole.var((0, 1, 2)),
    }
    print(json.dumps({name: float(np.abs(value).max()) for name, value in differences.items()}))


if __name__ == "__main__":
    main()
