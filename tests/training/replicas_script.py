"""Trains the tiny model on one device and on two replicas, in one process of its own.

Logical devices must be set up before TensorFlow starts, hence the process. Prints one JSON line.
"""

import json
import sys

import keras
import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

from tests.training.tiny import tiny_batch, tiny_model  # noqa: E402
from vatt_tf.layers.random import seed_scope  # noqa: E402
from vatt_tf.losses.objective import ObjectiveConfig  # noqa: E402
from vatt_tf.training.step import PretrainStep, step_key  # noqa: E402
from vatt_tf.training.strategy import gather_function  # noqa: E402
from vatt_tf.training.trainer import Trainer  # noqa: E402

STEPS, BATCH = 3, 8


def train(strategy, micro):
    replicas = strategy.num_replicas_in_sync
    with strategy.scope():
        model = tiny_model()
        sgd = keras.optimizers.SGD(0.1)  # Adam would blow rounding errors up
        sgd.build(model.tower_variables + model.head_variables)
        global_step = tf.Variable(0, dtype=tf.int64, trainable=False)
    step = PretrainStep(model, ObjectiveConfig(), micro, gather_function(replicas))

    def make_iterator(start):
        def rows(context):
            batches = [tiny_batch(BATCH, seed) for seed in range(start, STEPS)]
            stacked = {key: np.stack([b[key] for b in batches]) for key in batches[0]}
            dataset = tf.data.Dataset.from_tensor_slices(stacked)
            return dataset.rebatch(BATCH // replicas, drop_remainder=True)

        return iter(strategy.distribute_datasets_from_function(rows))

    trainer = Trainer(
        strategy=strategy,
        model=model,
        optimizer=sgd,
        step=step,
        global_step=global_step,
        make_iterator=make_iterator,
        batch_size=BATCH,
        seed=1,
        clip_norm=1.0,
    )
    first = next(make_iterator(0))
    gradients, metrics, _ = trainer._compute(first, global_step)
    gradients = [strategy.experimental_local_results(g)[0].numpy() for g in gradients]
    statistics = [v.numpy() for v in model.non_trainable_variables]
    losses = [trainer.train(1)["loss"] for _ in range(STEPS)]
    return {
        "loss": float(metrics["loss"]),
        "gradients": gradients,
        "statistics": [np.asarray(value) for value in statistics],
        "weights": [np.asarray(v) for v in model.weights],
        "losses": losses,
    }


def masks_of_replicas(strategy):
    def draw():
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        with seed_scope(step_key(0, tf.constant(0), replica)):
            return keras.random.uniform((4,), seed=stream)

    from vatt_tf.layers.random import SeedStream

    with strategy.scope():
        stream = SeedStream(0)
    parts = strategy.experimental_local_results(tf.function(lambda: strategy.run(draw))())
    return [part.numpy().tolist() for part in parts]


def difference(left, right):
    """Largest absolute difference over the largest value."""
    scale = max(np.abs(value).max() for value in left)
    return float(max(np.abs(a - b).max() for a, b in zip(left, right, strict=True)) / scale)


def main():
    one = train(tf.distribute.OneDeviceStrategy("/cpu:0"), None)
    mirrored = tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"])
    report = {"masks": masks_of_replicas(mirrored)}
    for name, micro in (("plain", None), ("two_pass", 2)):
        two = train(mirrored, micro)
        report[name] = {
            "loss": abs(one["loss"] - two["loss"]) / one["loss"],
            "losses": difference([np.array(one["losses"])], [np.array(two["losses"])]),
            **{
                key: difference(one[key], two[key])
                for key in ("gradients", "statistics", "weights")
            },
        }
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
