"""Floating-point operations of a model, counted from its configuration.

Counted are the matrix products and convolutions, two operations per multiply-add: patch embedding,
projections, both products of the attention, MLPs, heads. Norms, softmax, GELU and position tables
are left out (about 1 %).

Three conventions:
  * ``"needed"``: what pooled features need, as this package computes them: of the last block the
    keys and values of all tokens, and the rest for AGG only.
  * ``"full"``: the same with all outputs of the last block.
  * ``"paper"``: one of the two attention products is left out, and the patches that DropToken drops
    are counted as projected. This is what reproduces the FLOPs that the paper prints (tables 1 and
    6) to 1 %; they are 16-20 % lower than the full count.
"""

from __future__ import annotations

from vatt_tf.data.schema import MODALITIES
from vatt_tf.encoders.tower import TowerConfig
from vatt_tf.heads.config import HEADS
from vatt_tf.models.config.classifier import ClassifierConfig
from vatt_tf.models.config.multimodal import MultimodalConfig
from vatt_tf.models.config.vatt import VattConfig
from vatt_tf.models.graph_cost import graph_cost


def encoder_flops(tower: TowerConfig, *, training: bool = False, convention: str = "needed") -> int:
    """Forward pass of one tower on one clip (text: one caption).

    Args:
        tower: The tower's configuration.
        training: Whether DropToken leaves out its share of the patches.
        convention: ``"needed"``, ``"full"`` or ``"paper"``.
    """
    flops = tower.flops(training=training, convention=convention)
    return graph_cost(tower).flops if flops is None else flops


def head_flops(config: VattConfig, texts: int = 5) -> int:
    """Forward pass of the head on one clip with ``texts`` captions."""
    widths = {modality: tower.output_dim for modality, tower in config.towers.items()}
    video, audio, text = (widths.get(modality, 0) for modality in MODALITIES)
    return HEADS[config.head.kind].flops(config.head, video, audio, texts * text)


def step_flops(
    config: VattConfig | ClassifierConfig | MultimodalConfig,
    batch: int = 1,
    training: bool = True,
    convention: str = "needed",
    *,
    texts: int = 5,
) -> dict[str, int]:
    """FLOPs of one step on a batch of clips.

    Args:
        config: The model's configuration.
        batch: Clips.
        training: A training step: DropToken is on, and the backward pass counts as two forward
            passes. Otherwise one forward pass on all tokens.
        convention: ``"needed"``, ``"full"`` or ``"paper"``.
        texts: Captions of a clip.

    Returns:
        FLOPs of each tower and of ``head``, and their sum ``total``. Fusion and head of a
        classifier are left out: they are small beside its towers.
    """
    per_clip = {
        modality: encoder_flops(tower, training=training, convention=convention)
        for modality, tower in config.towers.items()
    }
    if "text" in per_clip:
        per_clip["text"] *= texts
    if isinstance(config, VattConfig):
        per_clip["head"] = head_flops(config, texts)
    passes = 3 if training else 1
    flops = {part: passes * batch * count for part, count in per_clip.items()}
    flops["total"] = sum(flops.values())
    return flops
