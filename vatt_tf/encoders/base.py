"""Base of the Transformer towers with absolute positions: from embedded tokens to features."""

from __future__ import annotations

import math
import uuid
import weakref
from collections.abc import MutableMapping, Sequence
from typing import Any, ClassVar

import keras
from keras import layers, ops

from vatt_tf.encoders.tower import Tower
from vatt_tf.layers.dropout import Dropout, DropToken
from vatt_tf.layers.transformer.agg_token import AggToken
from vatt_tf.layers.transformer.blocks import Transformer
from vatt_tf.layers.transformer.patch_embedding import PatchEmbedding
from vatt_tf.layers.transformer.positions import FactorisedPositions

# Transformer that towers share -> what their configurations call it.
_SHARED: MutableMapping[Transformer, str] = weakref.WeakKeyDictionary()
# Its newest copy by that name, and the names of the towers that have the copy.
_COPIES: MutableMapping[str, Transformer] = weakref.WeakValueDictionary()
_TOWERS: MutableMapping[Transformer, set[str]] = weakref.WeakKeyDictionary()


class TransformerEncoder(Tower):
    """Base of the towers with learned absolute positions (docs/reference.md, Towers).

    tokens -> (pre-projection) -> + positions -> dropout -> [AGG] -> Transformer
    -> (post-projection)

    Args:
        config: The tower's configuration.
        transformer: A Transformer to share with other towers; its own settings then count.
        **kwargs: Of ``keras.layers.Layer``.
    """

    has_agg = True

    def __init__(
        self,
        config: Any,
        transformer: Transformer | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(config, **kwargs)
        size, policy = config.transformer_size(), self.dtype_policy
        self.d_model = size.d_model
        if config.pre_projection:
            self.pre_projection = layers.Dense(size.d_model, dtype=policy, name="pre_projection")
        self.position_dropout = Dropout(
            config.position_dropout_rate, dtype=policy, name="position_dropout"
        )
        self.agg_token = AggToken(dtype=policy, name="agg_token")
        self._shares = transformer is not None
        self.transformer = transformer or Transformer(
            **size.arguments(),
            dropout_rate=config.dropout_rate,
            use_bias=config.has_bias,
            dtype=policy,
            name="transformer",
        )
        if config.post_projection:
            self.post_projection = layers.Dense(
                config.post_projection, dtype=policy, name="post_projection"
            )

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        if self._shares:
            config["transformer"] = keras.saving.serialize_keras_object(self.transformer)
            config["shared"] = _SHARED.setdefault(self.transformer, uuid.uuid4().hex)
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        shared = config.get("shared")
        if shared is None:
            return super().from_config(config)
        # Keras deserialises a shared object once in a saved file, but not in `clone_model`. Copies
        # of towers that share a Transformer share a copy, until one of them is copied again.
        transformer = _COPIES.get(shared)
        if transformer is None or config["name"] in _TOWERS[transformer]:
            transformer = keras.saving.deserialize_keras_object(config["transformer"])
            _COPIES[shared], _TOWERS[transformer] = transformer, set()
        _TOWERS[transformer].add(config["name"])
        kept = {name: value for name, value in config.items() if name != "shared"}
        return super().from_config({**kept, "transformer": transformer})

    def _set_positions(self, axes: Sequence[str], sizes: Sequence[int]) -> None:
        """Creates the position tables; called once by the constructor of a subclass."""
        self.positions = FactorisedPositions(
            axes, sizes, self.d_model, dtype=self.dtype_policy, name="positions"
        )

    def _build_from_tokens(self, batch: int | None, tokens: int, token_dim: int) -> None:
        """Builds everything behind the embedding for ``tokens`` tokens of width ``token_dim``."""
        shape = (batch, tokens, self.d_model)
        with_agg = (batch, tokens + 1, self.d_model)
        if self.config.pre_projection:
            self.pre_projection.build((batch, tokens, token_dim))
        self.positions.build(shape)
        self.position_dropout.build(shape)
        self.agg_token.build(shape)
        if not self.transformer.built:
            self.transformer.build(with_agg)
        if self.config.post_projection:
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
        if self.config.pre_projection:
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
        if self.config.post_projection:
            tokens = ops.gelu(self.post_projection(tokens), approximate=False)
        return tokens


class PatchEncoder(TransformerEncoder):
    """Base of the towers whose tokens are patches: patch embedding and DropToken in front.

    Args:
        config: The tower's configuration, with ``input_shape``, ``patch`` and ``drop_token_rate``.
        **kwargs: See :class:`TransformerEncoder`.

    Attributes:
        axes: Names of the axes that are cut into patches, for the position tables.
        any_size: See :class:`vatt_tf.encoders.tower.Tower`.
        patch: Size of a patch along each of the axes.
        configured_grid: Patches along each axis of an input of the configured size.
    """

    axes: ClassVar[tuple[str, ...]]
    any_size = True

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        policy = self.dtype_policy
        self.patch = (config.patch,) if isinstance(config.patch, int) else tuple(config.patch)
        self.patch_embedding = PatchEmbedding(
            self.patch, self.d_model, dtype=policy, name="patch_embedding"
        )
        grid = self.patch_embedding.grid((None, *config.input_shape))
        self.configured_grid = grid
        self._set_positions(self._position_order(self.axes), self._position_order(grid))
        self.drop_token = DropToken(
            math.prod(grid), config.drop_token_rate, dtype=policy, name="drop_token"
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
