"""Statistical regularisation: activations of all modalities are to be distributed alike.

After Aytar, Castrejon, Vondrick, Pirsiavash, Torralba: Cross-Modal Scene Networks (Learning
Aligned Cross-Modal Representations from Weakly Aligned Data, 2016), who ask the hidden activations
of every modality to be likely under one distribution. Here the distribution is estimated anew from
each batch, as one Gaussian per modality (:func:`moment_matching`) or as one mixture for all
(:func:`mixture_likelihood`).

Activations are dicts from modality to ``[B, d]``, or ``[B, ..., d]`` where a clip has several
(captions); all modalities have the same d and row i of each belongs to clip i. Masks are dicts of
``[B]`` or ``[B, ...]``, 0 for what is missing. All of it is computed in float32.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

from keras import ops

STATISTICS = ("moments", "mixture")
Tensors = Mapping[str, Any]

# Steps of EM from the start components: on features that move slowly a few are enough.
EM_STEPS = 3
# Of a component and unit, where the variance of the unit is 1: what fits a component this well is
# not drawn any nearer to it.
LEAST_VARIANCE = 0.1
# Share of the clips below which a component counts as empty.
_LEAST_SIZE = 1e-6
# Added to variances that are divided by, as in the heads' BatchNorm.
_EPSILON = 1e-5


def statistical_loss(
    activations: Tensors, masks: Tensors, kind: str = "moments", components: int = 8
) -> Any:
    """The regularising loss of a batch.

    Activations are standardised first (:func:`standardise`), with gradient: else the loss would
    fall by making all activations small, which the heads, whose BatchNorm scales them back, do not
    prevent.

    Several replicas each give the rows of all of them, gathered, and multiply by their own share:
    local rows / all rows. The shares add up to the loss of the batch. So do the gradients: that of
    a gathered row is the sum of what the replicas ask of it, and their shares add up to 1.

    Args:
        activations: Of the whole batch.
        masks: Of the whole batch.
        kind: ``"moments"``, or ``"mixture"`` for the negative log likelihood of a unit under the
            mixture that the batch itself gives (:func:`start_of_mixture`, :func:`fit_mixture`).
        components: Of the mixture.

    Returns:
        float32 scalar; 0 when fewer than two modalities are there.

    Raises:
        ValueError: If ``kind`` is unknown.
    """
    if kind not in STATISTICS:
        raise ValueError(f"kind={kind!r}, expected one of {STATISTICS}")
    values = standardise(activations, masks)
    if kind == "moments":
        return moment_matching(values, masks)
    start = start_of_mixture(values, masks, components)
    loss = mixture_likelihood(values, masks, *fit_mixture(values, masks, *start))
    return loss / next(iter(values.values())).shape[-1]


def moment_matching(activations: Tensors, masks: Tensors) -> Any:
    """Distance of the means and variances of the modalities.

    Sum over the pairs of modalities a, b of the mean over the units u of
    ``(mean_au - mean_bu)^2 + (variance_au - variance_bu)^2``. A modality with fewer than two rows
    has no variance and is left out.

    Args:
        activations: See the module.
        masks: See the module.

    Returns:
        float32 scalar; 0 when fewer than two modalities are there.
    """
    moments = []
    for values, mask in _clips(activations, masks).values():
        count = ops.sum(mask)
        shares = mask / ops.maximum(count, 1.0)
        mean = _sum(values * shares)
        variance = _sum(ops.square(values - mean) * shares)
        moments.append((mean, variance, ops.cast(count > 1.0, "float32")))
    total = ops.zeros((), "float32")
    for first, second in itertools.combinations(moments, 2):
        distance = ops.square(first[0] - second[0]) + ops.square(first[1] - second[1])
        total = total + first[2] * second[2] * ops.mean(distance)
    return total


def mixture_likelihood(
    activations: Tensors, masks: Tensors, means: Any, variances: Any, weights: Any
) -> Any:
    """Negative mean log likelihood under a mixture of Gaussians with diagonal covariance.

    The mean is over the rows of a modality, then over the modalities: each counts the same, however
    many captions a clip has.

    Args:
        activations: See the module.
        masks: See the module.
        means: ``[K, d]``.
        variances: ``[K, d]``, above 0.
        weights: ``[K]``, sum 1.

    Returns:
        float32 scalar; 0 when fewer than two modalities are there.
    """
    total, modalities = ops.zeros((), "float32"), 0.0
    for values, mask in _clips(activations, masks).values():
        joint = _log_densities(values, means, variances) + ops.log(ops.cast(weights, "float32"))
        count = ops.sum(mask)
        likelihood = ops.sum(ops.logsumexp(joint, axis=-1, keepdims=True) * mask)
        total = total - likelihood / ops.maximum(count, 1.0)
        modalities = modalities + ops.cast(count > 0.0, "float32")
    return ops.where(modalities > 1.0, total / ops.maximum(modalities, 1.0), 0.0)


def standardise(activations: Tensors, masks: Tensors) -> dict[str, Any]:
    """Activations minus their mean, over their deviation, per unit over all modalities together.

    Each modality counts the same in both. The gradient passes through mean and deviation.

    Args:
        activations: See the module.
        masks: See the module.

    Returns:
        float32, the shapes of the activations; rows that are missing are 0.
    """
    clips = _clips(activations, masks)
    shares = _shares(clips)
    mean = sum(_sum(values * shares[name]) for name, (values, _) in clips.items())
    centred = {name: (values - mean) * mask for name, (values, mask) in clips.items()}
    variance = sum(_sum(ops.square(values) * shares[name]) for name, values in centred.items())
    scale = ops.rsqrt(variance + _EPSILON)
    return {
        name: ops.reshape(values * scale, ops.shape(activations[name]))
        for name, values in centred.items()
    }


def start_of_mixture(activations: Tensors, masks: Tensors, components: int) -> tuple[Any, Any, Any]:
    """Components to start from, a function of the batch alone.

    Component k starts at clip number ``(k + 0.5) B / K`` of the batch: its mean is that of the
    clip's modalities, so that it lies between them and not in one. All variances are 1, all weights
    equal.

    Args:
        activations: Standardised.
        masks: See the module.
        components: K.

    Returns:
        Means ``[K, d]``, variances ``[K, d]``, weights ``[K]``, without gradient.
    """
    total, modalities = 0.0, 0.0
    for values, mask in _clips(activations, masks).values():
        count = ops.sum(mask, axis=1)
        total = total + ops.sum(values * mask, axis=1) / ops.maximum(count, 1.0)
        modalities = modalities + ops.cast(count > 0.0, "float32")
    clips = ops.stop_gradient(total / ops.maximum(modalities, 1.0))
    number = (2 * ops.arange(components) + 1) * ops.shape(clips)[0] // (2 * components)
    means = ops.take(clips, number, axis=0)
    return means, ops.ones_like(means), ops.full((components,), 1.0 / components, "float32")


def fit_mixture(
    activations: Tensors,
    masks: Tensors,
    means: Any,
    variances: Any,
    weights: Any,
    steps: int = EM_STEPS,
    least_variance: float = LEAST_VARIANCE,
) -> tuple[Any, Any, Any]:
    """Steps of EM for one mixture of all modalities, without gradient.

    A component belongs to a clip as a whole: the E step weighs the components of a clip by the
    product of the densities of its modalities (of several captions the geometric mean), the M step
    takes the moments of all rows with the weights of their clips, each modality counting the same.
    Rows by themselves would be fitted best by components of one modality each, under which
    modalities that lie apart are as likely as any.

    Args:
        activations: See the module.
        masks: See the module.
        means: ``[K, d]`` to start from.
        variances: ``[K, d]``.
        weights: ``[K]``.
        steps: Number of steps.
        least_variance: Smallest variance of a component.

    Returns:
        Means, variances, weights. A component that no clip belongs to stays where it is.
    """
    clips = {
        name: (ops.stop_gradient(values), mask)
        for name, (values, mask) in _clips(activations, masks).items()
    }
    shares = _shares(clips)
    means, variances, weights = (
        ops.stop_gradient(ops.cast(part, "float32")) for part in (means, variances, weights)
    )
    for _ in range(steps):
        joint = ops.log(weights)
        for values, mask in clips.values():
            densities = _log_densities(values, means, variances)
            captions = ops.maximum(ops.sum(mask, axis=1), 1.0)
            joint = joint + ops.sum(densities * mask, axis=1) / captions
        belongs = ops.exp(joint - ops.logsumexp(joint, axis=-1, keepdims=True))[:, None, :]
        belonging = {name: belongs * share for name, share in shares.items()}
        sizes = sum(_sum(part) for part in belonging.values())
        counts = ops.maximum(sizes, _LEAST_SIZE)[:, None]
        first, second = (
            sum(_products(belonging[name], power(values)) for name, (values, _) in clips.items())
            / counts
            for power in (lambda values: values, ops.square)
        )
        found = (sizes > _LEAST_SIZE)[:, None]
        means = ops.where(found, first, means)
        spread = ops.maximum(second - ops.square(first), least_variance)
        variances = ops.where(found, spread, variances)
        weights = counts[:, 0] / ops.sum(counts)
    return means, variances, weights


def _clips(activations: Tensors, masks: Tensors) -> dict[str, tuple[Any, Any]]:
    """By modality: values float32 [B, P, d], 0 where missing, and their mask [B, P, 1] of 0 and 1.

    P is 1 where a clip has one row.
    """
    clips = {}
    for name, values in activations.items():
        batch, width = ops.shape(values)[0], values.shape[-1]
        mask = ops.reshape(ops.cast(masks[name], "float32"), (batch, -1, 1)) > 0
        values = ops.reshape(ops.cast(values, "float32"), (batch, -1, width))
        clips[name] = (ops.where(mask, values, 0.0), ops.cast(mask, "float32"))
    return clips


def _shares(clips: Mapping[str, tuple[Any, Any]]) -> dict[str, Any]:
    """Weight of each row, [B, P, 1]: each modality that is there has the same sum, all have 1."""
    counts = {name: ops.sum(mask) for name, (_, mask) in clips.items()}
    modalities = sum(ops.cast(count > 0.0, "float32") for count in counts.values())
    return {
        name: mask / (ops.maximum(counts[name], 1.0) * ops.maximum(modalities, 1.0))
        for name, (_, mask) in clips.items()
    }


def _sum(values: Any) -> Any:
    """Over all rows: [B, P, d] -> [d]."""
    return ops.sum(values, axis=(0, 1))


def _products(weights: Any, values: Any) -> Any:
    """Weighted sums over all rows: [B, P, K], [B, P, d] -> [K, d]."""
    return ops.tensordot(weights, values, axes=[[0, 1], [0, 1]])


def _log_densities(values: Any, means: Any, variances: Any) -> Any:
    """Of Gaussians: [B, P, d], [K, d], [K, d] -> [B, P, K]. Products, no [B, P, K, d]."""
    means, variances = ops.cast(means, "float32"), ops.cast(variances, "float32")
    # Near 0 the squares below are small, and so is what rounding does to their differences.
    centre = ops.mean(means, axis=0)
    values, means = values - centre, means - centre
    precisions = ops.transpose(1.0 / variances)
    squares = ops.matmul(ops.square(values), precisions)
    squares = squares - 2.0 * ops.matmul(values, ops.transpose(means) * precisions)
    mean_terms = ops.sum(ops.square(means) / variances + ops.log(variances), axis=-1)
    return -0.5 * (squares + mean_terms + values.shape[-1] * math.log(2.0 * math.pi))
