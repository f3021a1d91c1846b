"""Self-attention that knows relative positions by learned keys and values (Shaw et al., 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from vatt_tf.layers.transformer.attention import SelfAttention


def clipped_distances(length: int, max_distance: int) -> np.ndarray:
    """Row of the tables for every (query i, key j): clip(j - i, -k, k) + k, int32 [N, N]."""
    position = np.arange(length)
    relative = position[None, :] - position[:, None]
    return (np.clip(relative, -max_distance, max_distance) + max_distance).astype(np.int32)


@keras.saving.register_keras_serializable("vatt_tf")
class ShawAttention(SelfAttention):
    """Multi-head self-attention with relative keys and values.

    Shaw, Uszkoreit, Vaswani: Self-Attention with Relative Position Representations (2018),
    equations 3 and 4. With the distance r = clip(j - i, -k, k) of key j from query i::

        score_ij = q_i (k_j + aK_r)        (times 1 / sqrt(d_kv) when scores are scaled)
        z_i      = sum over j of softmax(score)_ij (v_j + aV_r)

    The vectors aK and aV are as wide as a head and shared by the heads; each layer has its own.
    Dropout falls on the weights, hence on values and relative values alike.

    Args:
        num_heads: Number of heads.
        d_kv: Width of a head.
        dropout_rate: Dropout on the attention weights.
        use_bias: Whether the projections have biases.
        scale_scores: Whether scores are divided by sqrt(d_kv).
        max_distance: Distance k from which on all tokens of a side share a vector (paper: 16).

    Call arguments:
        inputs: [B, N, d], N static.
        bias: Added to the scores, broadcastable to [B, heads, N, N]; None for none.

    Returns:
        [B, N, d].
    """

    def __init__(
        self,
        num_heads: int,
        d_kv: int,
        dropout_rate: float = 0.0,
        use_bias: bool = True,
        scale_scores: bool = True,
        max_distance: int = 16,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_heads, d_kv, dropout_rate, use_bias, scale_scores, **kwargs)

        # === Config ===
        self.max_distance = max_distance

    def build(self, inputs_shape: Any) -> None:
        super().build(inputs_shape)
        for name in ("relative_keys", "relative_values"):
            table = self.add_weight(
                name=name,
                shape=(2 * self.max_distance + 1, self.d_kv),
                initializer="glorot_uniform",
            )
            setattr(self, name, table)

    def _scores(self, query: Any, key: Any) -> Any:
        scores = super()._scores(query, key)
        table = self._relative(self.relative_keys, scores.shape[2:], query.dtype)
        relative = ops.matmul(_by_query(query), ops.transpose(table, (0, 2, 1)))
        return scores + _by_clip(relative, self.num_heads)

    def _weighted(self, weights: Any, value: Any) -> Any:
        # Query by query, as the relative values of a query are the same in every clip and head.
        table = self._relative(self.relative_values, weights.shape[2:], weights.dtype)
        relative = ops.matmul(_by_query(weights), table)
        return super()._weighted(weights, value) + _by_clip(relative, self.num_heads)

    def _relative(self, table: Any, shape: Sequence[int], dtype: Any) -> Any:
        """Vector of every (query, key), [queries, N, d_kv]; queries are of the first tokens."""
        queries, length = shape
        rows = clipped_distances(length, self.max_distance)[:queries]
        return ops.take(ops.cast(table, dtype), ops.convert_to_tensor(rows), axis=0)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "max_distance": self.max_distance}


def _by_query(values: Any) -> Any:
    """[B, heads, N, e] -> [N, B * heads, e]."""
    values = ops.transpose(values, (2, 0, 1, 3))
    return ops.reshape(values, (values.shape[0], -1, values.shape[3]))


def _by_clip(values: Any, heads: int) -> Any:
    """[N, B * heads, e] -> [B, heads, N, e]."""
    values = ops.reshape(values, (values.shape[0], -1, heads, values.shape[2]))
    return ops.transpose(values, (1, 2, 0, 3))
