"""The two-pass step is the plain step; masks and keys are what they should be."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from tests.training.tiny import tiny_batch, tiny_config, tiny_model
from vatt_tf.data.input.pipeline import DataSource
from vatt_tf.errors import UserError
from vatt_tf.layers.dropout import Dropout
from vatt_tf.layers.fusion import fusion
from vatt_tf.layers.random import seed_scope
from vatt_tf.losses.objective import ObjectiveConfig, objective
from vatt_tf.losses.statistical import STATISTICS, statistical_loss
from vatt_tf.models.config.vatt import VattConfig
from vatt_tf.training.gradients import contrastive as step_module
from vatt_tf.training.gradients.contrastive import PretrainStep, seeded, step_key
from vatt_tf.training.tasks.config import TrainConfig

KEY = tf.constant([3, 4], tf.int32)


def traced_step(model, batch, micro, config=None):
    """The step as a function of its key; what takes the time is that it is traced."""
    function = tf.function(PretrainStep(model, config or ObjectiveConfig(), micro))
    batch = {k: tf.constant(v) for k, v in batch.items()}

    def run(key):
        gradients, metrics = function(batch, key)
        return [g.numpy() for g in gradients], {k: float(v) for k, v in metrics.items()}

    return run


def run_step(model, batch, micro, key=KEY, config=None):
    return traced_step(model, batch, micro, config)(key)


@functools.cache
def plain_step(config=None):
    """Gradients and metrics of eight clips by the plain step, and its model; read only."""
    model = tiny_model()
    return *run_step(model, tiny_batch(8), None, config=config), model


@functools.cache
def random_step():
    """The same of four clips in two micro-batches, with dropout and DropToken."""
    return run_step(tiny_model(dropout=0.2, drop_token=0.5), tiny_batch(4), 2)


def statistics(model):
    return [v.numpy() for v in model.non_trainable_variables]


REGULARISED = [ObjectiveConfig(statistics_weight=0.5, statistics=kind, mixture_components=2)
               for kind in STATISTICS]  # fmt: skip


@pytest.mark.parametrize(
    ("micro", "config"),
    [
        pytest.param(1, None, marks=pytest.mark.check),
        (2, None),
        pytest.param(4, None, marks=pytest.mark.check),
        pytest.param(2, REGULARISED[0], marks=pytest.mark.check),
        pytest.param(2, REGULARISED[1], marks=pytest.mark.check),
    ],
)
def test_two_pass_equals_the_plain_step(micro, config):
    expected, metrics, plain = plain_step(config)
    two_pass = tiny_model()
    actual, two_pass_metrics = run_step(two_pass, tiny_batch(8), micro, config=config)
    assert metrics.keys() == two_pass_metrics.keys()
    for name in metrics:
        # A mean cosine may be about 0.
        assert two_pass_metrics[name] == pytest.approx(metrics[name], rel=1e-5, abs=1e-6)
    scale = max(np.abs(g).max() for g in expected)
    for left, right, variable in zip(
        expected, actual, plain.tower_variables + plain.head_variables, strict=True
    ):
        np.testing.assert_allclose(left, right, atol=1e-5 * scale, err_msg=variable.path)
    # BatchNorm saw the full batch once, not each micro-batch.
    for left, right in zip(statistics(plain), statistics(two_pass), strict=True):
        np.testing.assert_allclose(left, right, atol=1e-6)


@pytest.mark.parametrize(
    "config", [REGULARISED[0], pytest.param(REGULARISED[1], marks=pytest.mark.check)]
)
def test_regularised_step(config):
    """The loss on the features is added with its weight, and reaches the towers only."""
    batch, model = tiny_batch(8), tiny_model()
    plain, without, _ = plain_step()
    gradients, metrics, _ = plain_step(config)
    assert metrics.keys() - without.keys() == {"loss/statistics"}
    inputs = {name: tf.constant(batch[name]) for name in ("video", "audio", "text")}
    features = model.encode(inputs, training=True)
    masks = {name: batch[f"{name}_mask"] for name in features}
    expected = float(statistical_loss(features, masks, config.statistics, 2))
    assert metrics["loss/statistics"] == pytest.approx(expected, rel=1e-4)
    assert metrics["loss"] == pytest.approx(without["loss"] + 0.5 * expected, rel=1e-5)
    towers = len(model.tower_variables)
    for left, right in zip(plain[towers:], gradients[towers:], strict=True):
        np.testing.assert_array_equal(left, right)
    pairs = zip(plain[:towers], gradients[:towers], strict=True)
    assert any(not np.allclose(left, right) for left, right in pairs)


def test_without_its_weight_nothing_is_computed(monkeypatch):
    def fail(*_):
        raise AssertionError("computed")

    monkeypatch.setattr(step_module, "statistical_loss", fail)
    model, batch = tiny_model(), {k: tf.constant(v) for k, v in tiny_batch(4).items()}
    calls = []

    def gather(tensor):
        calls.append(tensor)
        return tf.identity(tensor)

    step = PretrainStep(model, ObjectiveConfig(statistics="mixture"), gather=gather)
    _, metrics = step(batch, KEY)
    assert "loss/statistics" not in metrics
    assert len(calls) == 4 + 3  # the embeddings of two spaces, the masks


def test_two_pass_is_exact_with_dropout_and_droptoken():
    """Against one tape over the same micro-batches with the same random keys, not compiled."""
    batch = {k: tf.constant(v) for k, v in tiny_batch(4).items()}
    copy = tiny_model(dropout=0.2, drop_token=0.5)
    actual, metrics = random_step()

    @tf.function
    def one_tape():
        with tf.GradientTape() as tape, fusion(lambda function: function):
            parts = []
            for index in range(2):
                rows = slice(2 * index, 2 * index + 2)
                part = {}
                for number, name in enumerate(("video", "audio", "text")):
                    fold = tf.random.experimental.stateless_fold_in
                    with seed_scope(fold(fold(KEY, index), number)):
                        part |= copy.encode({name: batch[name][rows]}, training=True)
                parts.append(part)
            features = {name: tf.concat([part[name] for part in parts], 0) for name in parts[0]}
            spaces = copy.project(features, training=True)
            masks = {name: batch[f"{name}_mask"] for name in features}
            loss, _ = objective(spaces, spaces, masks, masks, ObjectiveConfig())
        variables = [v.value for v in copy.tower_variables + copy.head_variables]
        return loss, [tf.convert_to_tensor(g) for g in tape.gradient(loss, variables)]

    loss, expected = one_tape()
    assert metrics["loss"] == pytest.approx(float(loss), abs=1e-5)
    scale = max(np.abs(g.numpy()).max() for g in expected)
    for left, right in zip(expected, actual, strict=True):
        np.testing.assert_allclose(left.numpy(), right, atol=1e-5 * scale)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_what_is_compiled_draws_by_its_key(jit_compile):
    """Micro-batches and replicas call the same compiled function in one graph."""
    dropout, inputs = Dropout(0.5), tf.ones([64])
    function = seeded(dropout, jit_compile)

    @tf.function
    def draws():
        return [function(key, inputs) for key in (KEY, KEY + 1, KEY)]

    first, other, again = (draw.numpy() for draw in draws())
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.check
def test_remat_changes_nothing():
    """Blocks that are computed once more draw the same masks."""
    expected, metrics = random_step()
    model = tiny_model(dropout=0.2, drop_token=0.5)
    model.set_remat(True)
    actual, again = run_step(model, tiny_batch(4), 2)
    assert again["loss"] == pytest.approx(metrics["loss"], rel=1e-6)
    for left, right in zip(expected, actual, strict=True):
        # Rounding is that of the largest summands, whatever they add up to.
        atol = 2e-6 * max(1.0, np.abs(left).max())
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=atol)


def test_random_numbers_are_a_function_of_seed_step_and_replica():
    keys = {
        tuple(step_key(seed, tf.constant(step), tf.constant(replica)).numpy())
        for seed in (0, 1, 2**33)
        for step in (0, 1)
        for replica in (0, 1)
    }
    assert len(keys) == 12
    first = step_key(7, tf.constant(5), tf.constant(1)).numpy()
    np.testing.assert_array_equal(first, step_key(7, tf.constant(5), tf.constant(1)).numpy())

    again = traced_step(tiny_model(dropout=0.2, drop_token=0.5), tiny_batch(4), 2)
    same, other = again(KEY)[1]["loss"], again(KEY + 1)[1]["loss"]
    assert random_step()[1]["loss"] == same != other


def test_regularisation_wants_towers_of_one_width():
    """Said before anything is read or built."""
    run = {"data": DataSource("nowhere"), "steps": 1}
    objective = ObjectiveConfig(statistics_weight=1.0)
    TrainConfig(model=tiny_config(), objective=objective, **run)
    with pytest.raises(UserError, match="widths differ .video 768, audio 768, text 512."):
        TrainConfig(model=VattConfig(), objective=objective, **run)


def test_micro_batch_must_divide_the_batch():
    with pytest.raises(ValueError, match="micro_batch_size=3 does not divide the 4 clips"):
        run_step(tiny_model(), tiny_batch(4), 3)
