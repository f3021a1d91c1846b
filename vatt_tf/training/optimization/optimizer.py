"""Optimizers of the recipes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gin
import keras
import tensorflow as tf

from vatt_tf.errors import UserError, is_number, value_text
from vatt_tf.registry import Registry

# Functions from a learning rate and all options of ``optimizer`` to a Keras optimizer. One that is
# registered from outside of the package names the options that it reads, and ``**_`` for the rest.
OPTIMIZERS: Registry[Callable[..., keras.optimizers.Optimizer]] = Registry("optimizer.name")

# Vectors and tables without weight decay, which would pull scales and positions to 0.
_NOT_DECAYED = ("bias", "gamma", "beta", "scale", "agg", "position", "relative", "embeddings")


def is_decayed(variable: keras.Variable) -> bool:
    """Whether weight decay is for a variable: by its path, since ``name`` is it only somewhere."""
    return not re.search("|".join(_NOT_DECAYED), variable.path)


class _OneByOne:
    """Optimizer whose graph updates one variable after the other.

    Without this order a graph starts all updates at once and holds temporary tensors of the size of
    the model.
    """

    def _distributed_tf_update_step(self, *arguments: Any) -> None:
        self._updated: dict[str, Any] = {}
        super()._distributed_tf_update_step(*arguments)  # type: ignore[misc]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Changes one variable."""
        last = self._updated.get(variable.device)
        with tf.control_dependencies([] if last is None else [last]):
            super().update_step(gradient, variable, learning_rate)  # type: ignore[misc]
        self._updated[variable.device] = tf.identity(variable)


class _OneOperation:
    """Adam by TensorFlow's fused operation: Keras's formula in a third of the memory passes."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Changes one variable."""
        index = self._get_variable_index(variable)  # type: ignore[attr-defined]
        step = tf.cast(self.iterations + 1, variable.dtype)  # type: ignore[attr-defined]
        beta_1 = tf.constant(self.beta_1, variable.dtype)  # type: ignore[attr-defined]
        beta_2 = tf.constant(self.beta_2, variable.dtype)  # type: ignore[attr-defined]
        # No sparse case: the step has made all gradients dense.
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,  # type: ignore[attr-defined]
            v=self._velocities[index].value.handle,  # type: ignore[attr-defined]
            beta1_power=beta_1**step,
            beta2_power=beta_2**step,
            lr=tf.cast(learning_rate, variable.dtype),
            beta1=beta_1,
            beta2=beta_2,
            epsilon=tf.constant(self.epsilon, variable.dtype),  # type: ignore[attr-defined]
            grad=tf.cast(gradient, variable.dtype),
        )


class _Adam(_OneByOne, _OneOperation, keras.optimizers.Adam):
    pass


class _AdamW(_OneByOne, _OneOperation, keras.optimizers.AdamW):
    def build(self, variables: Sequence[Any]) -> None:
        """Creates the slots, and excludes variables from the decay."""
        self.exclude_from_weight_decay([v for v in variables if not is_decayed(v)])
        super().build(variables)


class _SGD(_OneByOne, keras.optimizers.SGD):
    pass


# The name is part of the variables' paths, which are the keys of a checkpoint.
@OPTIMIZERS.register("adam")
def _adam(learning_rate: Any, **options: float) -> keras.optimizers.Optimizer:
    return _Adam(learning_rate, **_picked(options, "beta_1", "beta_2", "epsilon"), name="adam")


@OPTIMIZERS.register("adamw")
def _adamw(learning_rate: Any, **options: float) -> keras.optimizers.Optimizer:
    picked = _picked(options, "weight_decay", "beta_1", "beta_2", "epsilon")
    return _AdamW(learning_rate, **picked, name="adamw")


@OPTIMIZERS.register("sgd")
def _sgd(learning_rate: Any, **options: float) -> keras.optimizers.Optimizer:
    return _SGD(learning_rate, **_picked(options, "momentum"), name="sgd")


def _picked(options: Mapping[str, float], *names: str) -> dict[str, Any]:
    return {name: options[name] for name in names}


@gin.configurable
def optimizer(
    learning_rate: Any,
    name: str = "adam",
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-7,
    weight_decay: float = 0.0,
    momentum: float = 0.9,
) -> keras.optimizers.Optimizer:
    """Builds the optimizer. The trainer clips gradients, after the all-reduce.

    Args:
        learning_rate: A number or a schedule (given by the run itself).
        name: ``"adam"`` (the paper's pre-training), ``"sgd"`` (its fine-tuning), ``"adamw"``, or a
            registered one (docs/extending.md).
        beta_1: Decay of the first moment.
        beta_2: Decay of the second moment.
        epsilon: Added to the root of the second moment.
        weight_decay: Decoupled weight decay of ``"adamw"``; matrices and kernels only.
        momentum: Of ``"sgd"`` (paper: 0.9, not Nesterov's).

    Raises:
        UserError: If a value is out of its range, if the name is unknown, or if ``"adam"`` or
            ``"sgd"`` is given a weight decay.
    """
    values = {"weight_decay": weight_decay, "epsilon": epsilon}
    fractions = {"beta_1": beta_1, "beta_2": beta_2, "momentum": momentum}
    for field, value in (values | fractions).items():
        most = 1.0 if field in fractions else math.inf
        if not is_number(value) or not 0 <= value < most:
            expected = "a number in [0, 1)" if field in fractions else "a number of at least 0"
            raise UserError(f"optimizer.{field}={value_text(value)}: expected {expected}")
    if weight_decay and name in ("adam", "sgd"):
        raise UserError(
            f"optimizer.weight_decay={weight_decay} with optimizer.name={name!r}: "
            "set optimizer.name='adamw' or the decay to 0"
        )
    return OPTIMIZERS[name](learning_rate, **values, **fractions)
