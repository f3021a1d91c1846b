"""Dropout and DropToken: the two places where the model draws random numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from vatt_tf.layers.configured import ConfiguredLayer
from vatt_tf.layers.fusion import mask_key, masked


@keras.saving.register_keras_serializable("vatt_tf")
class Dropout(ConfiguredLayer):
    """Inverted dropout whose masks obey :func:`vatt_tf.layers.random.seed_scope`.

    What the backward pass keeps is the mask, a byte an element. Layers that compute values again
    for it draw the mask outside of what is computed again, and hand it in.

    Args:
        rate: Share of the elements set to zero in training, 0 <= rate < 1.

    Raises:
        ValueError: When the rate is out of range.
    """

    def __init__(self, rate: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"rate must be in [0, 1), got {rate}")

        # === Config ===
        self.rate = rate
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        if self.rate > 0.0:
            self.seed_stream = keras.random.SeedGenerator(name="seed")

    def call(self, inputs: Any, training: bool = False) -> Any:
        return self.apply(inputs, self.draw(ops.shape(inputs), training))

    def draw(self, shape: Sequence[Any], training: bool, may_be_key: bool = False) -> Any:
        """Draws what is kept of a tensor of the given shape.

        Args:
            shape: Shape of the tensor.
            training: Whether anything is dropped.
            may_be_key: Whether it may be given as a key, for functions of
                :mod:`vatt_tf.layers.fusion`.

        Returns:
            Bool of the shape, a key, or None: all is kept.
        """
        if not training or self.rate == 0.0:
            return None
        key = mask_key(shape, self.rate, self.seed_stream)
        if key is None:
            draws = keras.random.uniform(shape, dtype="float32", seed=self.seed_stream)
            return draws >= self.rate
        return key if may_be_key else key.mask(shape)

    def apply(self, values: Any, kept: Any) -> Any:
        """What is kept of the values, grown by the share that is missing."""
        return values if kept is None else masked(values, kept) * self.scale

    @property
    def scale(self) -> float:
        """Factor of what is kept."""
        return 1.0 / (1.0 - self.rate)


@keras.saving.register_keras_serializable("vatt_tf")
class DropToken(ConfiguredLayer):
    """Chooses the tokens that a training step keeps (docs/reference.md, DropToken).

    One random permutation of the token numbers per call, shared by all clips of the batch; the
    first ``kept`` of it are kept, in shuffled order. The number kept comes from the *configured*
    number of tokens, so that it does not change with the size of a clip, as in the released code.

    The towers call :meth:`indices` and gather the raw patches, so that dropped ones are never
    projected; calling the layer gathers tokens and gives the same numbers.

    Args:
        tokens: Configured number of tokens of the tower.
        rate: Share of the tokens that is dropped, 0 <= rate < 1.

    Call arguments:
        inputs: [B, N, d], N static.
        training: Nothing is dropped when false.

    Returns:
        [B, kept, d] in training, else the inputs, whose shape is the declared one.

    Raises:
        ValueError: When the rate leaves no token, or drops none although it is not 0.
    """

    def __init__(self, tokens: int, rate: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"rate must be in [0, 1), got {rate}")

        # === Config ===
        self.tokens = tokens
        self.rate = rate
        self.kept = kept_tokens(tokens, rate)
        if rate > 0.0 and not 1 <= self.kept < tokens:
            raise ValueError(f"rate {rate} keeps {self.kept} of {tokens} tokens; nothing to do")

    def build(self, input_shape: Any) -> None:
        if self.rate > 0.0:
            self.seed_stream = keras.random.SeedGenerator(name="seed")

    def call(self, inputs: Any, training: bool = False) -> Any:
        indices = self.indices(inputs.shape[1], training)
        return inputs if indices is None else ops.take(inputs, indices, axis=1)

    def indices(self, actual_tokens: int, training: bool) -> Any:
        """Draws the tokens to keep of an input that has ``actual_tokens``.

        Returns:
            int32 [kept], or None when all tokens are kept.

        Raises:
            ValueError: When the input has no more tokens than are to be kept.
        """
        if not training or self.rate == 0.0:
            return None
        if not self.kept < actual_tokens:
            raise ValueError(
                f"DropToken keeps {self.kept} tokens, but the clip has only {actual_tokens}: train "
                "with clips of the configured size or set the drop rate to 0"
            )
        # Sorting float32 numbers gives a permutation on every backend and under XLA.
        order = ops.argsort(
            keras.random.uniform((actual_tokens,), dtype="float32", seed=self.seed_stream)
        )
        return ops.cast(order[: self.kept], "int32")


def kept_tokens(tokens: int, rate: float) -> int:
    """Number of tokens that are kept when the share ``rate`` is dropped: int((1 - rate) * tokens).

    The tiny summand undoes binary rounding: 1 - 0.9 is a little less than 0.1.
    """
    return int((1.0 - rate) * tokens + 1e-6)
