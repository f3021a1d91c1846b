"""The features that a model reads off its towers."""

from __future__ import annotations

from typing import Any

from keras import ops

from vatt_tf.encoders.tower import Tower


def pooled_features(tower: Tower, inputs: Any, training: bool = False) -> Any:
    """Pooled features of an encoder: [B, d]; [B, P, d] of texts [B, P, L]."""
    # Of a Transformer it is the output of AGG: its last block has nothing else to compute.
    arguments = {"training": training, **({"pooled_only": True} if tower.has_agg else {})}
    if tower.name != "text":
        return tower(inputs, **arguments)["features_pooled"]
    ids = ops.convert_to_tensor(inputs)
    rows = ops.reshape(ids, (-1, ids.shape[-1]))
    features = tower(rows, **arguments)["features_pooled"]
    if len(ids.shape) == 2:
        return features
    return ops.reshape(features, (*ops.shape(ids)[:-1], features.shape[-1]))
