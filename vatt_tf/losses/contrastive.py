"""NCE and MIL-NCE between an anchor modality and the candidates of another one.

Who gathers the keys of other replicas is the caller's business: the functions take the local
rows and the rows of the whole batch, so that they stay plain tensor functions.
"""

from __future__ import annotations

from typing import Any

from keras import ops

from vatt_tf.registry import Registry

# Losses of a pair of modalities. All are called as contrastive_loss is; what is registered from
# outside of the package takes the arguments that it needs and ``**_`` for the others.
PAIR_LOSSES: Registry[Any] = Registry("contrastive_loss.kind")

DENOMINATORS = ("joint", "joint_positive_twice", "symmetric")

# Added in place of a similarity that must not count. Large against any cosine / temperature, small
# enough that a row in which everything is masked stays finite (its loss is multiplied by 0).
_MASKED = -1e9


def l2_normalize(x: Any, epsilon: float = 1e-12) -> Any:
    """Scales the last axis to length 1 in float32 (epsilon on the squared norm)."""
    x = ops.cast(x, "float32")
    square_norm = ops.sum(ops.square(x), axis=-1, keepdims=True)
    return x * ops.rsqrt(ops.maximum(square_norm, epsilon))


@PAIR_LOSSES.register("nce")
def contrastive_loss(
    anchors: Any,
    candidates: Any,
    all_anchors: Any,
    all_candidates: Any,
    *,
    anchor_mask: Any,
    candidate_mask: Any,
    all_anchor_mask: Any,
    all_candidate_mask: Any,
    row_offset: Any = 0,
    temperature: float = 0.07,
    denominator: str = "joint",
) -> tuple[Any, Any]:
    """Loss of each local clip against the whole batch (VATT eq. 4 and 5).

    With s(i, jl) the cosine of anchor i and candidate l of clip j over the temperature::

        positives_i = logsumexp over l of s(i, il)
        loss_i      = denominator_i - positives_i

    One candidate a clip is NCE, several are MIL-NCE. The denominators:

    * ``"joint"`` (paper): logsumexp over the positives, all s(i, jl) and all s(j, il) with j != i.
      The floor of the loss is 0.
    * ``"joint_positive_twice"`` (released code): the same, but both directions bring the positives
      along, so that the floor is ln 2.
    * ``"symmetric"`` (released code's alternative): one softmax over s(i, jl), another over
      s(j, il), and the sum of the two losses.

    Args:
        anchors: Local anchors, ``[b, d]``, not normalised.
        candidates: Local candidates, ``[b, p, d]``.
        all_anchors: Anchors of the whole batch, ``[B, d]``; rows ``row_offset`` to
            ``row_offset + b`` are the local ones.
        all_candidates: Candidates of the whole batch, ``[B, p, d]``.
        anchor_mask: ``[b]``, 1 where the anchor exists.
        candidate_mask: ``[b, p]``, 1 where the candidate exists.
        all_anchor_mask: ``[B]``.
        all_candidate_mask: ``[B, p]``.
        row_offset: Index of the first local row in the whole batch (an integer or a scalar tensor).
        temperature: Divides the cosines.
        denominator: One of ``DENOMINATORS``.

    Returns:
        ``(loss, valid)``, both float32 ``[b]``: the loss of each clip, 0 where the clip lacks the
        anchor or every candidate, and 1 where it counts.

    Raises:
        ValueError: If ``denominator`` is unknown.
    """
    if denominator not in DENOMINATORS:
        raise ValueError(f"denominator={denominator!r}, expected one of {DENOMINATORS}")
    anchors, candidates = l2_normalize(anchors), l2_normalize(candidates)
    all_anchors, all_candidates = l2_normalize(all_anchors), l2_normalize(all_candidates)
    anchor_mask, candidate_mask = _as_bool(anchor_mask), _as_bool(candidate_mask)
    all_anchor_mask, all_candidate_mask = _as_bool(all_anchor_mask), _as_bool(all_candidate_mask)
    local, width = anchors.shape[0], anchors.shape[-1]
    total, per_clip = all_candidates.shape[0], all_candidates.shape[1]

    # Anchor i against every candidate: [b, B * p].
    rows = ops.matmul(anchors, ops.transpose(ops.reshape(all_candidates, (-1, width))))
    rows = _mask(rows / temperature, ops.reshape(all_candidate_mask, (1, total * per_clip)))
    # Every anchor j against the candidates of clip i: [b, B, p].
    columns = ops.matmul(candidates, ops.transpose(all_anchors)) / temperature
    columns = _mask(ops.transpose(columns, (0, 2, 1)), all_anchor_mask[None, :, None])
    columns = _mask(columns, candidate_mask[:, None, :])

    positives = ops.sum(anchors[:, None, :] * candidates, axis=-1) / temperature
    positives = _mask(positives, candidate_mask)
    positive = ops.logsumexp(positives, axis=-1)

    own = ops.arange(total)[None, :] == row_offset + ops.arange(local)[:, None]
    if denominator == "joint":
        columns = _mask(columns, ops.logical_not(own)[:, :, None])
    columns = ops.reshape(columns, (local, total * per_clip))
    if denominator == "symmetric":
        loss = ops.logsumexp(rows, axis=-1) + ops.logsumexp(columns, axis=-1) - 2.0 * positive
    else:
        # One sum over both: the gradient of a logaddexp of two sums is wrong where they are equal.
        loss = ops.logsumexp(ops.concatenate([rows, columns], axis=-1), axis=-1) - positive

    valid = ops.logical_and(anchor_mask, ops.any(candidate_mask, axis=-1))
    return ops.where(valid, loss, 0.0), ops.cast(valid, "float32")


def _as_bool(mask: Any) -> Any:
    return ops.cast(mask, "float32") > 0


def _mask(similarity: Any, keep: Any) -> Any:
    return ops.where(keep, similarity, _MASKED)
