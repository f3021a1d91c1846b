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

import math
from typing import Any

from vatt_tf.layers.dropout import kept_tokens
from vatt_tf.models.config.classifier import ClassifierConfig
from vatt_tf.models.config.convolution import CONVOLUTIONAL
from vatt_tf.models.config.multimodal import MultimodalConfig
from vatt_tf.models.config.sizes import TransformerSize
from vatt_tf.models.config.text import TextTowerConfig
from vatt_tf.models.config.vatt import (
    MODALITIES,
    AudioTowerConfig,
    TowerConfig,
    VattConfig,
    VideoTowerConfig,
)
from vatt_tf.models.conv_flops import convolution_cost

CONVENTIONS = ("needed", "full", "paper")


def transformer_flops(
    size: TransformerSize, tokens: int, convention: str = "needed", relative: bool = False
) -> int:
    """Forward pass of a Transformer on one sequence.

    Args:
        size: Shape of the Transformer.
        tokens: Length of the sequence, with AGG.
        convention: ``"needed"``, ``"full"`` or ``"paper"``.
        relative: Whether there are relative keys and values (Shaw): each of the attention's two
            products has a second one of its size beside it.

    Raises:
        ValueError: When the convention is unknown.
    """
    if convention not in CONVENTIONS:
        raise ValueError(f"convention must be one of {CONVENTIONS}, got {convention!r}")
    inner = size.num_heads * size.d_kv
    weights = 4 * size.d_model * inner + 2 * size.d_model * size.d_ff
    products = (1 if convention == "paper" else 2) * (2 if relative else 1)
    block = tokens * weights + products * tokens * tokens * inner
    if convention != "needed":
        return 2 * size.num_layers * block
    keys_and_values = 2 * size.d_model * inner
    last = tokens * keys_and_values + (weights - keys_and_values) + products * tokens * inner
    return 2 * ((size.num_layers - 1) * block + last)


def encoder_flops(tower: TowerConfig, *, training: bool = False, convention: str = "needed") -> int:
    """Forward pass of one tower on one clip (text: one caption).

    Args:
        tower: The tower's configuration.
        training: Whether DropToken leaves out its share of the patches.
        convention: ``"needed"``, ``"full"`` or ``"paper"``.
    """
    if isinstance(tower, TextTowerConfig) and tower.kind == "linear":
        return 2 * tower.max_tokens * tower.embedding_dim * tower.output_dim
    if isinstance(tower, CONVOLUTIONAL):
        return convolution_cost(tower).flops
    size = tower.transformer_size()
    if isinstance(tower, (VideoTowerConfig, AudioTowerConfig)):
        tokens = kept_tokens(tower.tokens, tower.drop_token_rate) if training else tower.tokens
        embedded = tower.tokens if convention == "paper" else tokens
        patch_size, pre_projection = _patch_size(tower), tower.pre_projection
    else:
        tokens, patch_size, pre_projection = tower.max_tokens, tower.embedding_dim, False
        # T5: AGG is projected too.
        embedded = tokens + 1 if isinstance(tower, TextTowerConfig) else tokens
    flops = 2 * embedded * patch_size * size.d_model
    flops += 2 * tokens * size.d_model * size.d_model * pre_projection
    projected = 1 if convention == "needed" else tokens + 1
    flops += 2 * projected * size.d_model * (getattr(tower, "post_projection", None) or 0)
    relative = getattr(tower, "positions", "t5") == "shaw"
    return flops + transformer_flops(size, tokens + 1, convention, relative)


def tower_flops(
    config: VattConfig, modality: str, *, training: bool = False, convention: str = "needed"
) -> int:
    """:func:`encoder_flops` of one of a model's towers."""
    return encoder_flops(config.tower(modality), training=training, convention=convention)


def head_flops(config: VattConfig, texts: int = 5) -> int:
    """Forward pass of the head on one clip with ``texts`` captions."""
    head = config.head
    widths = {modality: tower.output_dim for modality, tower in config.towers.items()}
    video, audio, text = (widths.get(modality, 0) for modality in MODALITIES)
    if head.kind in ("shared", "linear"):
        return 2 * head.vat_dim * (video + audio + texts * text)
    if head.kind == "mmv_shared":
        return 2 * head.vat_dim * (video + head.vat_dim + audio + texts * text)
    flops = head.va_dim * (video + head.va_dim + audio) + texts * text * head.vt_dim
    if head.kind in ("fac", "mmv_fac"):
        flops += head.va_dim * head.vt_dim
    else:
        flops += head.vt_dim * (video + head.vt_dim)
    return 2 * flops


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


def _patch_size(tower: VideoTowerConfig | AudioTowerConfig) -> int:
    """Numbers in one patch."""
    patch: Any = tower.patch
    if isinstance(tower, VideoTowerConfig):
        return 3 * math.prod(patch)
    return patch if isinstance(patch, int) else math.prod(patch)
