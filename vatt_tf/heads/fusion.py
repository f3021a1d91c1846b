"""Fusion of the features of several modalities into one vector, or of their logits into one.

Every layer takes a dict from modality to its features. A modality that a row lacks counts as zeros:
the outer products are of ``[1, x]``, so that the others remain.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from vatt_tf.heads.classification import ClassificationHead, as_outputs

FUSIONS = ("concatenation", "tensor", "compact_bilinear", "average")
# Largest output of tensor fusion: a head of 1000 classes on it has a thousand million weights.
MOST_PRODUCTS = 1 << 20
# Below it the signed square root, whose slope is infinite at 0, becomes a line.
_ROOT_EPSILON = 1e-6


def _one_and(features: Any) -> Any:
    """[B, d] -> [B, 1 + d]: a one in front of each row."""
    return ops.concatenate([ops.ones_like(features[:, :1]), features], axis=-1)


@keras.saving.register_keras_serializable("vatt_tf")
class Concatenation(keras.layers.Layer):
    """Features side by side, in the order of the modalities' names.

    Call arguments:
        features: Dict from modality to [B, d].

    Returns:
        [B, sum of the widths].
    """

    def build(self, features_shape: Mapping[str, Any]) -> None:
        del features_shape  # No weights.

    def call(self, features: Mapping[str, Any]) -> Any:
        return ops.concatenate([features[name] for name in sorted(features)], axis=-1)

    def compute_output_shape(self, features_shape: Mapping[str, Any]) -> Any:
        shapes = list(features_shape.values())
        return (shapes[0][0], sum(shape[-1] for shape in shapes))


@keras.saving.register_keras_serializable("vatt_tf")
class TensorFusion(keras.layers.Layer):
    """Outer product of ``[1, x]`` of all modalities, flattened (Zadeh et al., EMNLP 2017, eq. 3).

    It holds the features themselves and all products of two and of three modalities.

    Args:
        dim: Width to which each modality is projected first, None for no projection.

    Call arguments:
        features: Dict from modality to [B, d].

    Returns:
        [B, product of the widths + 1].

    Raises:
        ValueError: If there are more than ``MOST_PRODUCTS``.
    """

    def __init__(self, dim: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)

        # === Config ===
        self.dim = dim

    def build(self, features_shape: Mapping[str, Any]) -> None:
        products = self.compute_output_shape(features_shape)[-1]
        if products > MOST_PRODUCTS:
            raise ValueError(
                f"tensor fusion has {products:,} products, at most {MOST_PRODUCTS:,} are allowed; "
                "project the features to a smaller dim"
            )
        if self.dim is None:
            return
        for name in sorted(features_shape):
            projection = keras.layers.Dense(self.dim, dtype=self.dtype_policy, name=name)
            projection.build(features_shape[name])
            setattr(self, f"{name}_projection", projection)

    def call(self, features: Mapping[str, Any]) -> Any:
        product = None
        for name in sorted(features):
            value = features[name]
            if self.dim is not None:
                value = getattr(self, f"{name}_projection")(value)
            value = _one_and(value)
            if product is None:
                product = value
                continue
            width = product.shape[-1] * value.shape[-1]
            product = ops.reshape(product[:, :, None] * value[:, None, :], (-1, width))
        return product

    def compute_output_shape(self, features_shape: Mapping[str, Any]) -> Any:
        shapes = list(features_shape.values())
        return (shapes[0][0], math.prod((self.dim or shape[-1]) + 1 for shape in shapes))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "dim": self.dim}


@keras.saving.register_keras_serializable("vatt_tf")
class CompactBilinear(keras.layers.Layer):
    """Count sketch of the outer product of ``[1, x]`` of all modalities.

    Source: Gao et al., CVPR 2016; Fukui et al., EMNLP 2016. Each number goes into a random place of
    the sketch with a random sign. The sketch of an outer product is the circular convolution of the
    sketches, hence a product after the Fourier transform (Pham and Pagh, KDD 2013), and inner
    products of sketches are those of the outer products on average. Then come the signed square
    root and the L2 norm. It computes in float32.

    Args:
        dim: Width of the sketch.
        seed: Places and signs are a function of it and of the modality's number.

    Call arguments:
        features: Dict from modality to [B, d].

    Returns:
        [B, dim].
    """

    def __init__(self, dim: int = 4096, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)

        # === Config ===
        self.dim = dim
        self.seed = seed

    def build(self, features_shape: Mapping[str, Any]) -> None:
        for number, name in enumerate(sorted(features_shape)):
            count = features_shape[name][-1] + 1
            generator = np.random.default_rng((self.seed, number))
            places = generator.integers(0, self.dim, count)
            signs = generator.choice((-1.0, 1.0), count)
            # Weights, so that a trained model does not depend on NumPy's generator. Not cast in
            # mixed precision: bfloat16 counts to 256.
            for kind, values in (("places", places), ("signs", signs)):
                variable = self.add_weight(
                    (count,),
                    initializer=_constant(values),
                    dtype="float32",
                    trainable=False,
                    autocast=False,
                    name=f"{name}_{kind}",
                )
                setattr(self, f"{name}_{kind}", variable)

    def sketch(self, features: Mapping[str, Any]) -> Any:
        """The sketch itself, before root and norm: float32 [B, dim]."""
        real, imaginary = None, None
        for name in sorted(features):
            value = _one_and(ops.cast(features[name], "float32"))
            places = ops.cast(getattr(self, f"{name}_places"), "int32")
            signed = ops.transpose(value * getattr(self, f"{name}_signs"))
            counted = ops.segment_sum(signed, places, num_segments=self.dim)
            re, im = ops.rfft(ops.transpose(counted))
            if real is None:
                real, imaginary = re, im
            else:
                real, imaginary = real * re - imaginary * im, real * im + imaginary * re
        return ops.irfft((real, imaginary), fft_length=self.dim)

    def call(self, features: Mapping[str, Any]) -> Any:
        sketch = self.sketch(features)
        root = sketch / ops.sqrt(ops.abs(sketch) + _ROOT_EPSILON)
        return ops.cast(ops.normalize(root, axis=-1), self.compute_dtype)

    def compute_output_shape(self, features_shape: Mapping[str, Any]) -> Any:
        return (next(iter(features_shape.values()))[0], self.dim)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "dim": self.dim, "seed": self.seed}


def _constant(values: np.ndarray) -> Any:
    """Initializer that gives these values."""
    return lambda shape, dtype=None: ops.convert_to_tensor(values, dtype=dtype)


@keras.saving.register_keras_serializable("vatt_tf")
class AveragedHeads(keras.layers.Layer):
    """A classification head per modality and the mean of their logits.

    Args:
        num_classes: Number of classes.
        multi_label: See :class:`vatt_tf.heads.classification.ClassificationHead`.
        dropout_rate: Dropout in front of each head.

    Call arguments:
        features: Dict from modality to [B, d].
        present: Dict from modality to [B], 1 where a row has it and 0 where the mean leaves it out;
            None: every row has all. A row that has none gets logits of 0.
        training: Switches dropout on.

    Returns:
        ``logits`` and ``probabilities``, [B, num_classes].
    """

    def __init__(
        self,
        num_classes: int,
        multi_label: bool = False,
        dropout_rate: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)

        # === Config ===
        self.num_classes = num_classes
        self.multi_label = multi_label
        self.dropout_rate = dropout_rate

    def build(self, features_shape: Mapping[str, Any]) -> None:
        for name in sorted(features_shape):
            head = ClassificationHead(
                self.num_classes,
                self.multi_label,
                self.dropout_rate,
                dtype=self.dtype_policy,
                name=name,
            )
            head.build(features_shape[name])
            setattr(self, f"{name}_head", head)

    def call(
        self,
        features: Mapping[str, Any],
        present: Mapping[str, Any] | None = None,
        training: bool = False,
    ) -> dict[str, Any]:
        total, count = 0.0, 0.0
        for name in sorted(features):
            logits = getattr(self, f"{name}_head")(features[name], training=training)["logits"]
            weight = ops.ones_like(logits[:, 0]) if present is None else present[name]
            weight = ops.cast(weight, logits.dtype)[:, None]
            total, count = total + weight * logits, count + weight
        return as_outputs(total / ops.maximum(count, 1.0), self.multi_label)

    def compute_output_shape(
        self, features_shape: Mapping[str, Any], present_shape: Any = None
    ) -> dict[str, Any]:
        shape = (next(iter(features_shape.values()))[0], self.num_classes)
        return {"logits": shape, "probabilities": shape}

    def get_config(self) -> dict[str, Any]:
        config = {
            "num_classes": self.num_classes,
            "multi_label": self.multi_label,
            "dropout_rate": self.dropout_rate,
        }
        return {**super().get_config(), **config}
