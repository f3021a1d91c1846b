"""Trains tiny models on one device and on two replicas with the same whole batches.

Logical devices must be set up before TensorFlow starts, hence the process. Prints one JSON line.
"""

import json
import sys
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

from tests.training.tiny import tiny_batch, tiny_classifier, tiny_model  # noqa: E402
from vatt_tf.layers.random import seed_scope  # noqa: E402
from vatt_tf.losses.objective import ObjectiveConfig  # noqa: E402
from vatt_tf.training import trainer  # noqa: E402
from vatt_tf.training.cluster.strategy import gather_function  # noqa: E402
from vatt_tf.training.gradients.classification import ClassificationStep  # noqa: E402
from vatt_tf.training.gradients.contrastive import PretrainStep, step_key  # noqa: E402

STEPS, BATCH, CLASSES = 10, 8, 3


def pretraining(micro, gather):
    model = tiny_model()
    objective = ObjectiveConfig(statistics_weight=0.1)  # also over the whole batch
    return model, PretrainStep(model, objective, micro, gather)


def finetuning(micro, gather):
    model = tiny_classifier(CLASSES)
    options = {"mixup_alpha": 0.0, "class_balance": True}  # classes counted over all replicas
    return model, ClassificationStep(model, micro_batch_size=micro, gather=gather, **options)


def batch(number):
    labels = np.eye(CLASSES, dtype="float32")[np.arange(BATCH) * (number + 1) % CLASSES]
    return {**tiny_batch(BATCH, number), "labels": labels}


def train(strategy, make, micro=None):
    """Losses of the steps, and all weights (BatchNorm's statistics too) after them."""
    replicas = strategy.num_replicas_in_sync
    with strategy.scope():
        model, step = make(micro, gather_function(replicas))
        adam = keras.optimizers.Adam(1e-4)  # the paper's
        adam.build(step.variables)
        global_step = tf.Variable(0, dtype=tf.int64, trainable=False)

    def make_iterator(start):
        def rows(context):
            batches = [batch(number) for number in range(start, STEPS)]
            stacked = {key: np.stack([b[key] for b in batches]) for key in batches[0]}
            dataset = tf.data.Dataset.from_tensor_slices(stacked)
            return dataset.rebatch(BATCH // replicas, drop_remainder=True)

        return iter(strategy.distribute_datasets_from_function(rows))

    loop = trainer.Trainer(
        strategy=strategy,
        model=model,
        optimizer=adam,
        step=step,
        global_step=global_step,
        make_iterator=make_iterator,
        batch_size=BATCH,
        seed=1,
        clip_norm=1.0,
    )
    losses = [loop.train(1)["loss"] for _ in range(STEPS)]
    weights = np.concatenate([np.ravel(variable) for variable in model.weights])
    return {"losses": losses, "weights": weights.tolist()}


def masks_of_replicas(strategy):
    def draw():
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        with seed_scope(step_key(0, tf.constant(0), replica)):
            return keras.random.uniform((4,), seed=stream)

    with strategy.scope():
        stream = keras.random.SeedGenerator(0)
    parts = strategy.experimental_local_results(tf.function(lambda: strategy.run(draw))())
    return [part.numpy().tolist() for part in parts]


def summed_numbers(strategy):
    """Numbers that a replica sums with the others in a step, and parameters of the model."""
    counts = []

    def all_reduce(context, op, value, *options):
        counts.extend(one.shape.num_elements() for one in tf.nest.flatten(value))
        return plain(context, op, value, *options)

    plain = tf.distribute.ReplicaContext.all_reduce
    model = finetuning(None, tf.identity)[0]
    with mock.patch.object(tf.distribute.ReplicaContext, "all_reduce", all_reduce):
        train(strategy, finetuning)
    return sum(counts) // strategy.num_replicas_in_sync, model.count_params()


def alarm_of_equal_keys(strategy):
    """What the trainer says when the replicas' random keys are the same."""
    with mock.patch.object(trainer, "step_key", lambda seed, step, _: step_key(seed, step, 0)):
        try:
            train(strategy, finetuning)
        except trainer.ReplicasEqual as error:
            return str(error)
    return None


def main():
    report = {}
    for replicas in (1, 2):
        devices = [f"/cpu:{index}" for index in range(replicas)]
        if replicas == 1:
            strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
        else:
            strategy = tf.distribute.MirroredStrategy(devices)
        # The more replicas, the smaller the parts that pass through the towers at a time.
        report[f"pre-training on {replicas}"] = train(strategy, pretraining, 4 // replicas)
        report[f"fine-tuning on {replicas}"] = train(strategy, finetuning)
    report["masks"] = masks_of_replicas(strategy)
    report["summed"], report["parameters"] = summed_numbers(strategy)
    report["alarm"] = alarm_of_equal_keys(strategy)
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
