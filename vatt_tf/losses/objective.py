"""The training objective: weighted contrastive losses over the pairs of modalities."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import gin
from keras import ops

from vatt_tf.errors import UserError, is_number, value_text
from vatt_tf.losses.contrastive import DENOMINATORS, PAIR_LOSSES
from vatt_tf.losses.statistical import STATISTICS

Spaces = Mapping[str, Mapping[str, Any]]


@gin.configurable("contrastive_loss")
@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """How the losses of the modality pairs are computed and added up.

    Attributes:
        kind: The loss of a pair of modalities: ``"nce"`` (NCE and MIL-NCE), or a registered one
            (docs/extending.md).
        temperature: Divides the cosines (paper: 0.07).
        denominator: ``"joint"`` counts the positive once (VATT, eq. 4 and 5),
            ``"joint_positive_twice"`` is the released code, ``"symmetric"`` uses two softmaxes.
        video_audio: Weight of the video-audio NCE.
        video_text: Weight of the video-text MIL-NCE (lambda of eq. 6).
        average: Divide the weighted sum by the sum of the weights, as the released code does; the
            paper adds.
        statistics_weight: Weight of a loss on the pooled features of the towers, which asks them
            to be distributed alike in all modalities; it is added to all the above. Wants towers
            of one width, as the agnostic model has them. 0: not computed.
        statistics: ``"moments"``: means and variances of the modalities are to be the same;
            ``"mixture"``: the features are to be likely under one Gaussian mixture of all of them.
        mixture_components: Gaussians of the mixture.
    """

    kind: str = "nce"
    temperature: float = 0.07
    denominator: str = "joint"
    video_audio: float = 1.0
    video_text: float = 1.0
    average: bool = False
    statistics_weight: float = 0.0
    statistics: str = "moments"
    mixture_components: int = 8

    def __post_init__(self) -> None:
        PAIR_LOSSES.check(self.kind)
        if not is_number(self.temperature) or not self.temperature > 0:
            self._fail("temperature", "a number above 0")
        if self.denominator not in DENOMINATORS:
            self._fail("denominator", f"one of {', '.join(DENOMINATORS)}")
        weights = (self.video_audio, self.video_text)
        if not all(map(is_number, weights)) or min(weights) < 0 or max(weights) <= 0:
            raise UserError(
                f"contrastive_loss weights video_audio={value_text(self.video_audio)}, "
                f"video_text={value_text(self.video_text)}: expected none below 0 and one above 0"
            )
        if not is_number(self.statistics_weight) or not self.statistics_weight >= 0:
            self._fail("statistics_weight", "a number of at least 0")
        if self.statistics not in STATISTICS:
            self._fail("statistics", f"one of {', '.join(STATISTICS)}")
        components = self.mixture_components
        if isinstance(components, bool) or not isinstance(components, int) or components < 1:
            self._fail("mixture_components", "a whole number of at least 1")

    def _fail(self, field: str, expected: str) -> None:
        value = value_text(getattr(self, field))
        raise UserError(f"contrastive_loss.{field}={value}: expected {expected}")

    def check_widths(self, widths: Mapping[str, int]) -> None:
        """Wants towers of one width where their features are compared.

        Args:
            widths: Width of the pooled features by modality.

        Raises:
            UserError: If they differ.
        """
        if self.statistics_weight and len(set(widths.values())) > 1:
            found = ", ".join(f"{name} {width}" for name, width in widths.items())
            raise UserError(
                f"contrastive_loss.statistics_weight={self.statistics_weight:g} compares the "
                f"features of the towers unit by unit, but their widths differ ({found}): choose "
                "towers of one width (the agnostic model has them) or set it to 0"
            )

    @property
    def pairs(self) -> tuple[tuple[str, str, float], ...]:
        """(anchor modality, candidate modality, weight) of every pair that counts."""
        pairs = (
            ("video", "audio", self.video_audio),
            ("video", "text", self.video_text),
        )
        return tuple(pair for pair in pairs if pair[2] > 0)


def find_space(spaces: Spaces, first: str, second: str) -> str:
    """Name of the space in which two modalities meet.

    Raises:
        UserError: If no space holds both.
    """
    for name, members in spaces.items():
        if first in members and second in members:
            return name
    held = {name: sorted(members) for name, members in spaces.items()}
    raise UserError(
        f"no common space holds both {first} and {second} (spaces: {held}); choose another "
        "common_space.kind or set the weight of this pair to 0"
    )


def objective(
    spaces: Spaces,
    all_spaces: Spaces,
    masks: Mapping[str, Any],
    all_masks: Mapping[str, Any],
    config: ObjectiveConfig,
    row_offset: Any = 0,
) -> tuple[Any, dict[str, Any]]:
    """This replica's share of the loss of the whole batch.

    The shares of all replicas add up to the loss, and the gradients of the shares add up to its
    gradient. Each pair is averaged over the clips of the WHOLE batch that have both modalities
    (the released code normalises on each replica by itself, which makes the loss depend on how
    the batch is split). The symmetric loss divides by n m / B instead, with n clips of B that have
    the anchor and m that have a candidate, as the released code does (docs/reference.md, Losses).

    Args:
        spaces: Local embeddings by space and modality: ``[b, d]``, text ``[b, p, d]``.
        all_spaces: The same of the whole batch, gathered over the replicas.
        masks: Local masks by modality: video and audio ``[b]``, text ``[b, p]``.
        all_masks: The same of the whole batch.
        config: Weights, temperature, denominator.
        row_offset: Index of the first local row in the whole batch.

    Returns:
        The total (float32 scalar) and the losses of the pairs (``{"video_audio": scalar, ...}``).
    """
    losses = {}
    total = ops.zeros((), "float32")
    for first, second, weight in config.pairs:
        name = find_space(spaces, first, second)
        loss, _ = PAIR_LOSSES[config.kind](
            spaces[name][first],
            _with_candidates(spaces[name][second]),
            all_spaces[name][first],
            _with_candidates(all_spaces[name][second]),
            anchor_mask=masks[first],
            candidate_mask=_with_candidate_axis(masks[second]),
            all_anchor_mask=all_masks[first],
            all_candidate_mask=_with_candidate_axis(all_masks[second]),
            row_offset=row_offset,
            temperature=config.temperature,
            denominator=config.denominator,
        )
        anchor_exists = ops.cast(all_masks[first] > 0, "float32")
        candidate_exists = ops.cast(
            ops.any(_with_candidate_axis(all_masks[second]) > 0, axis=-1), "float32"
        )
        if config.denominator == "symmetric":
            # The released code scales by batch / valid once for each of the two masks.
            count = ops.sum(anchor_exists) * ops.mean(candidate_exists)
        else:
            count = ops.sum(anchor_exists * candidate_exists)
        # Without a valid clip the sum of the losses is 0 too.
        losses[f"{first}_{second}"] = ops.sum(loss) / ops.where(count > 0, count, 1.0)
        total = total + weight * losses[f"{first}_{second}"]
    if config.average:
        total = total / sum(weight for _, _, weight in config.pairs)
    return total, losses


def _with_candidates(embedding: Any) -> Any:
    return embedding if len(embedding.shape) == 3 else embedding[:, None, :]


def _with_candidate_axis(mask: Any) -> Any:
    return mask if len(mask.shape) == 2 else mask[:, None]


def chance_level_loss(config: ObjectiveConfig, batch_size: int, texts: int) -> dict[str, float]:
    """The loss of each pair when all embeddings are equal and no modality is missing.

    About ``ln(2 * batch_size)``; the exact value depends on the denominator.

    Args:
        config: The objective.
        batch_size: Clips of the whole batch.
        texts: Candidate captions of a clip.
    """

    def equal(rows: int) -> dict[str, Any]:
        captions = ops.ones((rows, texts, 1))
        return {"video": ops.ones((rows, 1)), "audio": ops.ones((rows, 1)), "text": captions}

    def present(rows: int) -> dict[str, Any]:
        return {name: value[..., 0] for name, value in equal(rows).items()}

    # All rows have the same share: one is enough.
    _, losses = objective(
        {"all": equal(1)}, {"all": equal(batch_size)}, present(1), present(batch_size), config
    )
    return {name: batch_size * float(value) for name, value in losses.items()}
