"""Floating-point operations of a model, counted from its configuration.

Counted are the matrix products, two operations per multiply-add: patch embedding, projections,
both products of the attention, MLPs and heads. Norms, softmax, GELU and position tables are left
out (about 1 %).

Two conventions:
  * ``"full"``: all of that, as this package computes it.
  * ``"paper"``: one of the two attention products is left out, and the patches that DropToken drops
    are counted as projected. This is what reproduces the FLOPs that the paper prints (tables 1 and
    6) to 1 %; they are 16-20 % lower than the full count.
"""

from __future__ import annotations

from typing import Any

from vatt_tf.layers.dropout import kept_tokens
from vatt_tf.models.config import VattConfig
from vatt_tf.models.sizes import TransformerSize

CONVENTIONS = ("full", "paper")


def transformer_flops(size: TransformerSize, tokens: int, convention: str = "full") -> int:
    """Forward pass of a Transformer on one sequence.

    Args:
        size: Shape of the Transformer.
        tokens: Length of the sequence, with AGG.
        convention: ``"full"`` or ``"paper"``.

    Raises:
        ValueError: When the convention is unknown.
    """
    if convention not in CONVENTIONS:
        raise ValueError(f"convention must be one of {CONVENTIONS}, got {convention!r}")
    inner = size.num_heads * size.d_kv
    weights = 4 * size.d_model * inner + 2 * size.d_model * size.d_ff
    products = 2 if convention == "full" else 1
    attention = products * tokens * tokens * inner
    return 2 * size.num_layers * (tokens * weights + attention)


def tower_flops(
    config: VattConfig, modality: str, *, training: bool = False, convention: str = "full"
) -> int:
    """Forward pass of one tower on one clip (text: one caption).

    Args:
        config: The model's configuration.
        modality: ``"video"``, ``"audio"`` or ``"text"``.
        training: Whether DropToken leaves out its share of the patches.
        convention: ``"full"`` or ``"paper"``.
    """
    tower = getattr(config, modality)
    agnostic = config.kind == "agnostic"
    if modality == "text":
        tokens, patch_size = tower.max_tokens, tower.embedding_dim
        if tower.kind == "linear":
            return 2 * tokens * patch_size * tower.linear_width()
        embedded = tokens if agnostic else tokens + 1  # T5: AGG is projected too.
    else:
        tokens = kept_tokens(tower.tokens, tower.drop_token_rate) if training else tower.tokens
        patch_size = _patch_size(config, modality)
        embedded = tower.tokens if convention == "paper" else tokens
    size = (config.agnostic if agnostic else tower).transformer_size()
    flops = 2 * embedded * patch_size * size.d_model
    if modality != "text" and (agnostic or tower.pre_projection):
        flops += 2 * tokens * size.d_model * size.d_model
    post = config.agnostic.post_projection if agnostic else getattr(tower, "post_projection", None)
    flops += 2 * (tokens + 1) * size.d_model * (post or 0)
    return flops + transformer_flops(size, tokens + 1, convention)


def head_flops(config: VattConfig, texts: int = 5) -> int:
    """Forward pass of the head on one clip with ``texts`` captions."""
    head = config.head
    video, audio, text = (feature_width(config, name) for name in ("video", "audio", "text"))
    if head.kind == "shared":
        return 2 * head.vat_dim * (video + audio + texts * text)
    flops = head.va_dim * (video + head.va_dim + audio) + texts * text * head.vt_dim
    if head.kind == "fac":
        flops += head.va_dim * head.vt_dim
    else:
        flops += head.vt_dim * (video + head.vt_dim)
    return 2 * flops


def feature_width(config: VattConfig, modality: str) -> int:
    """Width of a tower's features."""
    if config.kind == "agnostic":
        return config.agnostic.post_projection
    tower = getattr(config, modality)
    if modality == "text" and tower.kind == "linear":
        return tower.linear_width()
    return getattr(tower, "post_projection", None) or tower.transformer_size().d_model


def step_flops(
    config: VattConfig,
    batch: int = 1,
    training: bool = True,
    convention: str = "full",
    *,
    texts: int = 5,
) -> dict[str, int]:
    """FLOPs of one step on a batch of clips.

    Args:
        config: The model's configuration.
        batch: Clips.
        training: A training step: DropToken is on, and the backward pass counts as two forward
            passes. Otherwise one forward pass on all tokens.
        convention: ``"full"`` or ``"paper"``.
        texts: Captions of a clip.

    Returns:
        FLOPs of ``video``, ``audio``, ``text`` and ``head``, and their sum ``total``.
    """
    per_clip = {
        modality: tower_flops(config, modality, training=training, convention=convention)
        for modality in ("video", "audio", "text")
    }
    per_clip["text"] *= texts
    per_clip["head"] = head_flops(config, texts)
    passes = 3 if training else 1
    flops = {part: passes * batch * count for part, count in per_clip.items()}
    flops["total"] = sum(flops.values())
    return flops


def _patch_size(config: VattConfig, modality: str) -> int:
    """Numbers in one patch."""
    if modality == "video":
        time, height, width = config.video.patch
        return 3 * time * height * width
    patch: Any = config.audio.patch
    return patch if isinstance(patch, int) else patch[0] * patch[1]
