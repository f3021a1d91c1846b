"""The training step: one program, compared with stock Keras, variable by variable."""

import signal
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.models import test_convolutional as conv
from vatt_tf.errors import Interrupted
from vatt_tf.models.classifier import build_classifier
from vatt_tf.models.config.classifier import ClassifierConfig
from vatt_tf.training.gradients.classification import ClassificationStep
from vatt_tf.training.optimization.optimizer import optimizer
from vatt_tf.training.trainer import Trainer, TrainingDiverged

ROWS, WIDTH = 4, 3


class Step:
    """Gradients of a squared error behind BatchNorm, the least that a step needs."""

    def __init__(self, model):
        self.model, self.variables = model, model.trainable_variables
        self.clipped = len(self.variables)

    def __call__(self, batch, key, row_offset):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(self.model(batch["x"], training=True) - batch["y"]))
        return tape.gradient(loss, [v.value for v in self.variables]), {"loss": loss}


def small_model():
    keras.utils.set_random_seed(0)
    layers = [keras.Input((WIDTH,)), keras.layers.Dense(4), keras.layers.BatchNormalization()]
    return keras.Sequential([*layers, keras.layers.Dense(1)])


def batches(count, bad=()):
    for number in range(count):
        rng = np.random.default_rng(number)
        x = rng.normal(size=(ROWS, WIDTH)) * (np.nan if number in bad else 1)
        yield {
            "x": tf.constant(x, tf.float32),
            "y": tf.constant(rng.normal(size=(ROWS, 1)), tf.float32),
            "record_id": tf.range(ROWS, dtype=tf.int64) + 10 * number,
        }


def trainer(model, steps, name="adamw", bad=(), **options):
    updates = optimizer(0.05, name, weight_decay=0.1 if name == "adamw" else 0.0)
    step = Step(model) if isinstance(model, keras.Sequential) else ClassificationStep(model)
    updates.build(step.variables)
    arguments = {"make_iterator": lambda start: batches(steps, bad)} | options
    made = Trainer(
        strategy=tf.distribute.get_strategy(),
        model=model,
        optimizer=updates,
        step=step,
        global_step=tf.Variable(0, dtype=tf.int64),
        batch_size=ROWS,
        seed=0,
        **arguments,
    )
    return types.SimpleNamespace(loop=made, updates=updates, step=step)


def state(model, updates):
    return [v.numpy() for v in (*model.variables, *updates.variables)]


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_rates_of_single_variables_are_those_of_keras(name):
    """Each variable beside a stock optimizer of its own, with its rate and decay."""
    factors = [0.5, 0.0, 1.0, 0.25, 0.1, 1.0]
    model, stock = small_model(), small_model()
    trainer(model, 3, name, rates=lambda number: factors).loop.train(3)

    own = []
    for variable, factor in zip(stock.trainable_variables, factors, strict=True):
        decay = 0.1 if variable.path.endswith("kernel") else 0.0
        rate = keras.optimizers.AdamW(0.05 * factor, weight_decay=decay)
        own.append(rate if name == "adamw" else keras.optimizers.SGD(0.05 * factor, 0.9))
        own[-1].build([variable])
    reference = Step(stock)
    for batch in batches(3):
        gradients, _ = reference(batch, None, 0)
        for updates, gradient, variable in zip(own, gradients, reference.variables, strict=True):
            updates.apply([gradient], [variable])
    for found, right in zip(model.variables, stock.variables, strict=True):
        np.testing.assert_allclose(found, right, rtol=2e-5, atol=1e-7, err_msg=found.path)


def test_a_step_that_is_not_finite_changes_nothing():
    """Steps behind it in the same loop neither: weights, moments and statistics are of step 2."""
    model, seen = small_model(), []
    bad = trainer(model, 5, bad=[2], on_step=lambda step, metrics, rows: seen.append(step))
    with pytest.raises(TrainingDiverged, match=r"^step 3 is not finite .* records: 20; 21; 22; 23"):
        bad.loop.train(5)
    assert seen == [1, 2] and bad.updates.iterations == 2
    plain = small_model()
    good = trainer(plain, 2)
    assert np.isfinite(good.loop.train(2)["loss"])
    for found, right in zip(state(model, bad.updates), state(plain, good.updates), strict=True):
        np.testing.assert_array_equal(found, right)


def test_the_host_reads_once_a_loop_and_at_once_when_asked():
    model, seen, asked, saved = small_model(), [], [], []
    run = trainer(
        model,
        9,
        on_step=lambda step, metrics, rows: seen.append((step, len(asked))),
        asked_to_stop=lambda: asked.append(0) or (signal.SIGTERM if len(asked) == 8 else None),
        asked_to_save=lambda: len(asked) == 6,
        save=lambda: saved.append(len(asked)),
    )
    losses = [run.loop.train(4)["loss"]]
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    with pytest.raises(Interrupted):
        run.loop.train(5)
    assert seen[4:] == [(5, 6), (6, 6), (7, 8), (8, 8)] and saved == [6]
    single = trainer(small_model(), 4)
    assert losses[0] == pytest.approx(sum(single.loop.train(1)["loss"] for _ in range(4)) / 4)


def test_steps_are_read_before_the_error_of_a_batch():
    """Damaged records of steps that were done are counted."""

    def broken(start):
        yield from batches(2)
        raise OSError("no disk")

    seen = []
    run = trainer(small_model(), 9, make_iterator=broken, on_step=lambda *one: seen.append(one[0]))
    with pytest.raises(OSError, match="no disk"):
        run.loop.train(5)
    assert seen == [1, 2]


def test_batch_norm_that_does_not_learn_runs_in_inference_mode():
    model = small_model()
    dense, norm = model.layers[:2]
    phases = {0: [1.0, 1.0, 0.0, 0.0, 1.0, 1.0], 1: [1.0] * 6}
    run = trainer(model, 2, rates=phases.__getitem__)
    norm.moving_mean.assign([1.0, -1.0, 2.0, 0.5])
    batch = next(batches(1))
    hidden = (batch["x"] @ dense.kernel.value - norm.moving_mean) / np.sqrt(1 + norm.epsilon)
    right = hidden @ model.layers[2].kernel.value - batch["y"]
    before = norm.moving_mean.numpy(), norm.moving_variance.numpy()
    assert run.loop.train(1)["loss"] == pytest.approx(float(np.mean(right**2)), rel=1e-5)
    np.testing.assert_array_equal((norm.moving_mean, norm.moving_variance), before)
    run.loop.train(1)
    assert not np.isclose(before, (norm.moving_mean, norm.moving_variance)).any()


@pytest.mark.check
def test_what_is_frozen_keeps_its_statistics():
    """A frozen tower, then a stage that is: features and moving averages stay as they are."""
    keras.utils.set_random_seed(0)
    model = build_classifier(ClassifierConfig("video", conv.TSM, 3))
    rng = np.random.default_rng(0)
    clips = {
        "video": tf.constant(rng.integers(0, 256, (ROWS, 4, 32, 48, 3)), tf.uint8),
        "labels": tf.one_hot(np.arange(ROWS) % 3, 3),
        "record_id": tf.range(ROWS, dtype=tf.int64),
    }
    towers = len(model.tower_variables)
    head = [1.0] * len(model.head_variables)
    stage = [0.0 if "unit_0" in variable.path else 1.0 for variable in model.tower_variables]
    phases = {0: [*[0.0] * towers, *head], 1: [*[0.0] * towers, *head], 2: [*stage, *head]}
    run = trainer(
        model, 3, "sgd", make_iterator=lambda start: iter([clips] * 3), rates=phases.__getitem__
    )

    def values():
        return {weight.path: weight.numpy() for weight in model.weights}

    def features():
        return model.tower(clips["video"])["features_pooled"].numpy()

    before, seen = values(), features()
    run.loop.train(2)
    moved = {path for path, value in values().items() if not np.array_equal(value, before[path])}
    assert moved == {variable.path for variable in model.head_variables}
    np.testing.assert_array_equal(features(), seen)
    run.loop.train(1)
    moved = {path for path, value in values().items() if not np.array_equal(value, before[path])}
    assert moved == {path for path in before if "unit_0" not in path}
