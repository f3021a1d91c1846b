"""One base class that checks what every layer owes: config, shapes, dtypes, saving, gradients."""

from __future__ import annotations

import inspect
import json
import pathlib
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tests.layers import finite_differences
from vatt_tf.layers.fusion import fusion

POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")


@keras.saving.register_keras_serializable("vatt_tf_tests")
class _Holder(keras.Model):
    """A model around one layer, because only models have ``save_weights``."""

    def __init__(self, layer: keras.layers.Layer) -> None:
        super().__init__()
        self.layer = layer

    def call(self, inputs, **kwargs):
        return self.layer(inputs, **kwargs)


def shape_of(values: Any) -> Any:
    """Shapes of a tensor or of a nested dict of tensors, as tuples."""
    if isinstance(values, dict):
        return {key: shape_of(value) for key, value in values.items()}
    return tuple(values.shape)


def dtypes_of(values: Any) -> set[str]:
    return {keras.backend.standardize_dtype(leaf.dtype) for leaf in tf.nest.flatten(values)}


def randomise(variables: list[keras.Variable], seed: int = 0) -> None:
    """Positive numbers, so that no gradient and no comparison is zero by chance."""
    generator = np.random.default_rng(seed)
    for variable in variables:
        variable.assign(generator.uniform(0.1, 0.5, variable.shape))


def weighted_sum(values: Any) -> Any:
    """A scalar that depends on every output in its own way."""
    total = 0.0
    for index, leaf in enumerate(tf.nest.flatten(values)):
        leaf = tf.cast(leaf, "float32")
        weights = np.random.default_rng(index).normal(size=leaf.shape).astype("float32")
        total += tf.reduce_sum(tf.sin(leaf) * weights)
    return total


class LayerTestCase:
    """Mix-in of the tests of a layer.

    A test class sets the three attributes; :meth:`inputs` may return an array or a dict of arrays.
    ``unused_in_gradient`` names the trainable variables (by a part of their path) that cannot get a
    gradient from the outputs, with the reason in the test class.
    """

    layer_class: type[keras.layers.Layer]
    config: dict[str, Any] = {}
    unused_in_gradient: tuple[str, ...] = ()
    output_dtype: str | None = None  # Of a layer that does not answer in the compute dtype.

    def inputs(self) -> Any:
        raise NotImplementedError

    def make(self, dtype: str = "float32") -> keras.layers.Layer:
        keras.utils.set_random_seed(1)
        layer = self.layer_class(**self.config, dtype=dtype, name="layer")
        layer.build(shape_of(self.inputs()))
        return layer

    def test_config_round_trip(self):
        layer = self.make()
        text = json.dumps(keras.saving.serialize_keras_object(layer))
        again = keras.saving.deserialize_keras_object(json.loads(text))
        assert json.dumps(keras.saving.serialize_keras_object(again)) == text
        if not again.built:  # Keras builds a layer from its recorded shapes where it can.
            again.build(shape_of(self.inputs()))
        shapes = [(v.path, tuple(v.shape)) for v in layer.weights]
        assert [(v.path, tuple(v.shape)) for v in again.weights] == shapes

    def test_every_constructor_argument_is_in_the_config_and_documented(self):
        names = [
            name
            for name, parameter in _constructor(self.layer_class)
            if name != "self" and parameter.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        config = self.make().get_config()
        optional = {"transformer"}  # In the config only when one is shared.
        assert set(names) - optional <= set(config)
        for name in names:
            assert f"{name}:" in (self.layer_class.__doc__ or ""), name

    def test_shapes(self):
        layer, inputs = self.make(), self.inputs()
        expected = layer.compute_output_shape(shape_of(inputs))
        assert shape_of(layer(inputs)) == _tuples(expected)
        symbolic = _symbolic(inputs)
        unknown = layer.compute_output_shape(shape_of(symbolic))
        assert shape_of(layer(symbolic)) == _tuples(unknown)

    def test_dtype_policies(self):
        for policy in POLICIES:
            layer = self.make(policy)
            outputs = (
                layer(self.inputs(), training=True) if _trains(layer) else layer(self.inputs())
            )
            expected = self.output_dtype or layer.compute_dtype
            assert dtypes_of(outputs) == {expected}, policy
            assert all(np.all(np.isfinite(np.asarray(tf.cast(leaf, "float32"))))
                       for leaf in tf.nest.flatten(outputs))  # fmt: skip
            assert {v.dtype for v in layer.weights} <= {"float32"}

    def test_mixed_precision_is_close(self):
        exact = self.make("float32")
        # Not bfloat16: its 8 bits show as 7 % behind a layer norm of eight small numbers.
        rough = self.make("mixed_float16")
        for left, right in zip(exact.weights, rough.weights, strict=True):
            right.assign(left)
        pairs = zip(
            tf.nest.flatten(exact(self.inputs())),
            tf.nest.flatten(rough(self.inputs())),
            strict=True,
        )
        for left, right in pairs:
            left, right = np.asarray(left), np.asarray(tf.cast(right, "float32"))
            error = np.sqrt(np.mean((left - right) ** 2))
            assert error <= 0.02 * max(np.sqrt(np.mean(left**2)), 0.1)

    def test_weights_file(self, tmp_path: pathlib.Path):
        self._check_saving(
            lambda model: model.save_weights(tmp_path / "layer.weights.h5"),
            lambda model: model.load_weights(tmp_path / "layer.weights.h5"),
        )

    def test_tensorflow_checkpoint(self, tmp_path: pathlib.Path):
        prefix = str(tmp_path / "checkpoint")

        def load(model):
            status = tf.train.Checkpoint(model=model).read(prefix)
            status.assert_existing_objects_matched()

        self._check_saving(lambda model: tf.train.Checkpoint(model=model).write(prefix), load)

    def _check_saving(self, save, load):
        first, second = _Holder(self.make()), _Holder(self.make())
        first(self.inputs()), second(self.inputs())
        randomise(first.weights, seed=3)
        randomise(second.weights, seed=4)
        save(first)
        load(second)
        assert len(first.weights) == len(second.weights)
        for left, right in zip(first.weights, second.weights, strict=True):
            np.testing.assert_array_equal(np.asarray(left), np.asarray(right), err_msg=left.path)

    def test_gradients_reach_every_trainable_variable(self):
        layer = self.make()
        randomise(layer.trainable_weights)
        with tf.GradientTape() as tape:
            loss = weighted_sum(layer(self.inputs()))
        values = [variable.value for variable in layer.trainable_weights]
        gradients = tape.gradient(loss, values)
        for variable, gradient in zip(layer.trainable_weights, gradients, strict=True):
            if any(part in variable.path for part in self.unused_in_gradient):
                continue
            assert gradient is not None, f"no gradient for {variable.path}"
            gradient = np.asarray(tf.convert_to_tensor(gradient))
            assert np.all(np.isfinite(gradient)), variable.path
            assert np.max(np.abs(gradient)) > 0, f"zero gradient for {variable.path}"

    def test_gradients_in_training_are_differences(self):
        """With dropout and DropToken; then also with recomputed blocks and masks that are keys."""
        with finite_differences.all_in_float64():
            layer = self.make("float64")
            arguments = {"training": True} if _trains(layer) else {}
            rates = finite_differences.drop_rates(layer)
            assert all(rates), f"{rates}: what drops nothing has no mask to compare"
            finite_differences.check(layer, self.inputs(), arguments)
            if not rates:
                return
            layer.remat = True  # Of what has it.
            with fusion(lambda function: function):
                finite_differences.check(layer, self.inputs(), arguments)

    def test_graph_mode_equals_eager(self):
        layer, inputs = self.make(), self.inputs()
        graph = tf.function(lambda values: layer(values))(inputs)
        for left, right in zip(tf.nest.flatten(layer(inputs)), tf.nest.flatten(graph), strict=True):
            np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-5)


def _constructor(layer_class: type) -> list[tuple[str, inspect.Parameter]]:
    """Parameters of the layer's own constructor; none when it inherits Keras's."""
    if layer_class.__init__.__module__.startswith("keras."):
        return []
    return list(inspect.signature(layer_class.__init__).parameters.items())


def _tuples(shapes: Any) -> Any:
    if isinstance(shapes, dict):
        return {key: _tuples(value) for key, value in shapes.items()}
    return tuple(shapes)


def _symbolic(values: Any) -> Any:
    if isinstance(values, dict):
        return {key: _symbolic(value) for key, value in values.items()}
    return keras.Input(values.shape[1:], dtype=str(values.dtype))


def _trains(layer: keras.layers.Layer) -> bool:
    return "training" in inspect.signature(layer.call).parameters
