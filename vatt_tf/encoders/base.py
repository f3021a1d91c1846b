"""What the Transformer towers have in common: from embedded tokens to features."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from vatt_tf.layers.dropout import Dropout, DropToken
from vatt_tf.layers.transformer.agg_token import AggToken
from vatt_tf.layers.transformer.blocks import Transformer
from vatt_tf.layers.transformer.patch_embedding import PatchEmbedding
from vatt_tf.layers.transformer.positions import FactorisedPositions


class TransformerEncoder(keras.layers.Layer):
    """Base of the towers with learned absolute positions (docs/reference.md, Towers).

    tokens -> (pre-projection) -> + positions -> dropout -> [AGG] -> Transformer
    -> (post-projection)

    Args:
        d_model: Width of a token.
        num_layers: Number of Transformer blocks.
        num_heads: Number of attention heads.
        d_ff: Width of the MLPs.
        d_kv: Width of a head.
        dropout_rate: Dropout inside the Transformer.
        position_dropout_rate: Dropout after the positions are added.
        use_bias: Whether the Transformer's projections have biases.
        pre_projection: Whether a Dense + GELU follows the patch embedding (agnostic model).
        post_projection: Width of a Dense + GELU on all output tokens (agnostic model), or None.
        transformer: A Transformer to share with other towers; its own settings then count.
    """

    def __init__(
        self,
        *,
        d_model: int,
        num_layers: int = 12,
        num_heads: int = 12,
        d_ff: int = 3072,
        d_kv: int = 64,
        dropout_rate: float = 0.1,
        position_dropout_rate: float = 0.1,
        use_bias: bool = True,
        pre_projection: bool = False,
        post_projection: int | None = None,
        transformer: Transformer | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)

        # === Config ===
        self.d_model = d_model
        self.num_layers = num_layers
        self.num_heads = num_heads
        self.d_ff = d_ff
        self.d_kv = d_kv
        self.dropout_rate = dropout_rate
        self.position_dropout_rate = position_dropout_rate
        self.use_bias = use_bias
        self.has_pre_projection = pre_projection
        self.post_projection_dim = post_projection
        self.shares_transformer = transformer is not None

        # === Layers ===
        policy = self.dtype_policy
        if pre_projection:
            self.pre_projection = keras.layers.Dense(d_model, dtype=policy, name="pre_projection")
        self.position_dropout = Dropout(
            position_dropout_rate, dtype=policy, name="position_dropout"
        )
        self.agg_token = AggToken(dtype=policy, name="agg_token")
        self.transformer = transformer or Transformer(
            num_layers,
            num_heads,
            d_kv,
            d_ff,
            dropout_rate,
            use_bias,
            dtype=policy,
            name="transformer",
        )
        if post_projection:
            self.post_projection = keras.layers.Dense(
                post_projection, dtype=policy, name="post_projection"
            )

    @property
    def output_dim(self) -> int:
        """Width of the features."""
        return self.post_projection_dim or self.d_model

    def _set_positions(self, axes: Sequence[str], sizes: Sequence[int]) -> None:
        """Creates the position tables; called once by the constructor of a subclass."""
        self.positions = FactorisedPositions(
            axes, sizes, self.d_model, dtype=self.dtype_policy, name="positions"
        )

    def _build_from_tokens(self, batch: int | None, tokens: int, token_dim: int) -> None:
        """Builds everything behind the embedding for ``tokens`` tokens of width ``token_dim``."""
        shape = (batch, tokens, self.d_model)
        with_agg = (batch, tokens + 1, self.d_model)
        if self.has_pre_projection:
            self.pre_projection.build((batch, tokens, token_dim))
        self.positions.build(shape)
        self.position_dropout.build(shape)
        self.agg_token.build(shape)
        if not self.transformer.built:
            self.transformer.build(with_agg)
        if self.post_projection_dim:
            self.post_projection.build(with_agg)

    def _encode(
        self,
        tokens: Any,
        grid: Sequence[Any],
        indices: Any = None,
        attention_mask: Any = None,
        training: bool = False,
        pooled_only: bool = False,
    ) -> Any:
        """[B, N, .] embedded tokens -> [B, 1 + N, output_dim], AGG's first, or AGG's only."""
        if self.has_pre_projection:
            tokens = ops.gelu(self.pre_projection(tokens), approximate=False)
        if not all(isinstance(count, int) for count in grid):
            # The arguments of a layer may not mix tensors and numbers.
            grid = [ops.convert_to_tensor(count, dtype="int32") for count in grid]
        tokens = self.positions(tokens, grid=tuple(grid), indices=indices)
        tokens = self.position_dropout(tokens, training=training)
        tokens = self.transformer(
            self.agg_token(tokens),
            attention_mask=attention_mask,
            training=training,
            agg_only=pooled_only,
        )
        if self.post_projection_dim:
            tokens = ops.gelu(self.post_projection(tokens), approximate=False)
        return tokens

    def get_config(self) -> dict[str, Any]:
        config = {
            "d_model": self.d_model,
            "num_layers": self.num_layers,
            "num_heads": self.num_heads,
            "d_ff": self.d_ff,
            "d_kv": self.d_kv,
            "dropout_rate": self.dropout_rate,
            "position_dropout_rate": self.position_dropout_rate,
            "use_bias": self.use_bias,
            "pre_projection": self.has_pre_projection,
            "post_projection": self.post_projection_dim,
        }
        if self.shares_transformer:
            config["transformer"] = keras.saving.serialize_keras_object(self.transformer)
        return {**super().get_config(), **config}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> TransformerEncoder:
        transformer = config.pop("transformer", None)
        if transformer is not None:
            config["transformer"] = keras.saving.deserialize_keras_object(transformer)
        return cls(**config)


class PatchEncoder(TransformerEncoder):
    """Base of the towers whose tokens are patches: patch embedding and DropToken in front.

    Args:
        input_size: Configured size of the input along each axis that is cut into patches.
        patch: Size of a patch along each of them.
        axes: Names of these axes for the position tables.
        channels: Size of the last axis of the input.
        drop_token_rate: Share of the patches dropped in training.
        **kwargs: See :class:`TransformerEncoder`.

    Attributes:
        any_size: Whether a graph takes inputs whose size is known only when it runs.
        configured_grid: Patches along each axis of an input of the configured size.
    """

    any_size = True

    def __init__(
        self,
        *,
        input_size: Sequence[int],
        patch: Sequence[int],
        axes: Sequence[str],
        channels: int,
        drop_token_rate: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)

        # === Config ===
        self.input_size = tuple(input_size)
        self.patch = tuple(patch)
        self.channels = channels
        self.drop_token_rate = drop_token_rate

        # === Layers ===
        policy = self.dtype_policy
        self.patch_embedding = PatchEmbedding(
            self.patch, self.d_model, dtype=policy, name="patch_embedding"
        )
        grid = self.patch_embedding.grid((None, *self.input_size, channels))
        self.configured_grid = grid
        self._set_positions(self._position_order(axes), self._position_order(grid))
        self.drop_token = DropToken(
            math.prod(grid), drop_token_rate, dtype=policy, name="drop_token"
        )

    def _position_order(self, per_axis: Sequence[Any]) -> tuple[Any, ...]:
        """Order of the axes in which the flattened tokens read the position tables."""
        return tuple(per_axis)

    def build(self, input_shape: Any) -> None:
        grid = self.patch_embedding.grid(input_shape)
        self.patch_embedding.build(input_shape)
        self.drop_token.build((input_shape[0], math.prod(grid), self.d_model))
        self._build_from_tokens(input_shape[0], math.prod(grid), self.d_model)

    def call(
        self, inputs: Any, training: bool = False, pooled_only: bool = False
    ) -> dict[str, Any]:
        grid = self.patch_embedding.grid(ops.shape(inputs))
        indices = self.drop_token.indices(math.prod(grid), training)
        # Dropped patches are left out before the projection: the numbers are the same.
        tokens = self.patch_embedding(inputs, indices=indices)
        order = self._position_order(grid)
        tokens = self._encode(tokens, order, indices, training=training, pooled_only=pooled_only)
        if pooled_only:
            return {"features_pooled": tokens[:, 0]}
        features = tokens[:, 1:]
        if indices is None:
            features = ops.reshape(features, (-1, *grid, self.output_dim))
        return {"features": features, "features_pooled": tokens[:, 0]}

    def compute_output_shape(self, input_shape: Any) -> dict[str, Any]:
        grid = self.patch_embedding.grid(input_shape)
        return {
            "features": (input_shape[0], *grid, self.output_dim),
            "features_pooled": (input_shape[0], self.output_dim),
        }
