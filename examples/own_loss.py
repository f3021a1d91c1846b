"""A loss of one's own for a pair of modalities: the sigmoid loss of SigLIP (Zhai et al., 2023).

In gin: ``import own_loss`` and ``contrastive_loss.kind = 'sigmoid'``. docs/extending.md explains
the arguments.
"""

from __future__ import annotations

from typing import Any

from keras import ops

from vatt_tf.losses.contrastive import PAIR_LOSSES, l2_normalize

BIAS = -10.0  # of the paper's start: nearly all pairs are negatives


@PAIR_LOSSES.register("sigmoid")
def sigmoid_loss(
    anchors: Any,
    candidates: Any,
    all_anchors: Any,
    all_candidates: Any,
    *,
    anchor_mask: Any,
    candidate_mask: Any,
    all_candidate_mask: Any,
    row_offset: Any,
    temperature: float,
    **_: Any,
) -> tuple[Any, Any]:
    """Every pair of an anchor and a candidate is a decision of its own: do they belong together?

    Args:
        anchors: Local anchors, [b, d], not normalised.
        candidates: Local candidates, [b, p, d]; only their number counts here.
        all_anchors: Anchors of the whole batch; not needed: each local row meets all candidates.
        all_candidates: Candidates of the whole batch, [B, p, d].
        anchor_mask: [b], 1 where the anchor exists.
        candidate_mask: [b, p], 1 where the local candidate exists.
        all_candidate_mask: [B, p].
        row_offset: Index of the first local row in the whole batch.
        temperature: Divides the cosines.
        **_: What other losses read.

    Returns:
        The loss of each local clip and whether it counts, both float32 [b].
    """
    rows, width = ops.shape(anchors)[0], ops.shape(anchors)[-1]
    total, per_clip = all_candidates.shape[0], candidates.shape[1]
    keys = ops.reshape(l2_normalize(all_candidates), (-1, width))
    logits = ops.matmul(l2_normalize(anchors), ops.transpose(keys)) / temperature + BIAS
    logits = ops.reshape(logits, (rows, total, per_clip))
    own = ops.arange(total)[None, :] == row_offset + ops.arange(rows)[:, None]
    sign = ops.where(own, 1.0, -1.0)[..., None]
    counts = ops.cast(all_candidate_mask, "float32")[None]
    loss = ops.sum(ops.softplus(-sign * logits) * counts, axis=(1, 2))
    valid = ops.logical_and(
        ops.cast(anchor_mask, "float32") > 0,
        ops.any(ops.cast(candidate_mask, "float32") > 0, axis=-1),
    )
    return ops.where(valid, loss, 0.0), ops.cast(valid, "float32")
