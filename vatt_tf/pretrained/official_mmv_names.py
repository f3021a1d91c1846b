"""Names of MMV's released weights for our variables.

The release is written with Haiku, which names an array by the path of its module and its own name;
``~`` stands for what a module makes in its constructor, and a number for the second and later
modules of one name. Batch norms are called ``__cross_replica_batch_norm``; their statistics lie
apart, in modules of moving averages.
"""

from __future__ import annotations

import re

NORM = "__cross_replica_batch_norm"
VISUAL = "visual_module/~"
S3D = f"{VISUAL}/S3D"
TSM = f"{VISUAL}/TSMResNetV2"
AUDIO = "audio_module/~/res_net_v2"
TEXT = "text_module/~"

# Branches of the common spaces.
VIDEO_TO_VA = "vid2audio_embd"
VA_TO_VAT = "vis_embd"
AUDIO_TO_VA = "audio_embd"
TEXT_TO_VAT = "txt_embd"

# Name fragment of arrays that our model does not have -> why.
LEFT_OUT = {
    "_ema/hidden": "sum that a moving average is made of",
    "_ema/counter": "counts the steps",
    "audio2txt_embd/": "compares audio and text, unused: they meet in the coarse space",
    "txt2audio_embd/": "compares audio and text, unused: they meet in the coarse space",
}

_VARIABLES = {
    "kernel": "w",
    "bias": "b",
    "embeddings": "embeddings",
    "gamma": "scale",
    "beta": "offset",
    "moving_mean": "~/mean_ema/average",
    "moving_variance": "~/var_ema/average",
}


def _norm(module: str, number: int = 0) -> str:
    return f"{module}/{NORM}" + (f"_{number}" if number else "")


def _residual(layer: str, root: str, stem: str, block: str) -> str:
    """Haiku's module for a layer of a residual tower.

    Args:
        layer: Our layer below the tower.
        root: Module of the tower.
        stem: Its first convolution.
        block: Pattern of a block with ``unit`` and ``block``, and, behind a space, what stands
            between a block and its convolutions.
    """
    if layer == "stem":
        return f"{root}/{stem}"
    if layer == "norm":
        return _norm(root)
    match = re.fullmatch(r"unit_(?P<unit>\d+)_block_(?P<block>\d+)/(?P<part>\w+)", layer)
    if match is None:
        raise KeyError(layer)
    where, between = block.format(**match.groupdict()).split(" ")
    part = match.group("part")
    if part.startswith("norm_"):
        return _norm(f"{root}/{where}", int(part.removeprefix("norm_")))
    return f"{root}/{where}{between}{part}"


_UNITS = {
    "conv_1a": "Conv2d_1a_7x7",
    "conv_2b": "Conv2d_2b_1x1",
    "conv_2c": "Conv2d_2c_3x3",
    "branch_0_conv_0a": "Branch_0_Conv2d_0a_1x1",
    "branch_1_conv_0a": "Branch_1_Conv2d_0a_1x1",
    "branch_1_conv_0b": "Branch_1_Conv2d_0b_3x3",
    "branch_2_conv_0a": "Branch_2_Conv2d_0a_1x1",
    "branch_2_conv_0b": "Branch_2_Conv2d_0b_3x3",
    "branch_3_conv_0b": "Branch_3_Conv2d_0b_1x1",
}
_UNIT_PARTS = {
    "conv": "~/conv3_d",
    "spatial": "~/conv3_d",
    "temporal": "~/conv3_d_1",
    "norm": NORM,
    "spatial_norm": NORM,
    "temporal_norm": f"{NORM}_1",
    "gating": "self_gating",
}


def s3d_module(layer: str) -> str:
    """Haiku's module for a layer of S3D-G."""
    *blocks, unit, part = layer.split("/")
    names = [block.replace("mixed_", "Mixed_") for block in blocks]
    return "/".join([S3D, *names, _UNITS[unit], _UNIT_PARTS[part]])


def tsm_module(layer: str) -> str:
    """Haiku's module for a layer of the TSM-ResNet."""
    return _residual(layer, TSM, "tsm_resnet_stem", "tsm_resnet_unit_{unit}/block_{block} /")


def audio_module(layer: str) -> str:
    """Haiku's module for a layer of the audio ResNet."""
    return _residual(layer, AUDIO, "~/initial_conv", "~/block_group_{unit}/block_{block} /~/")


def text_module(layer: str) -> str:
    """Haiku's module for a layer of the text tower."""
    return {"word_embedding": f"{TEXT}/embed", "projection": f"{TEXT}/text_conv1"}[layer]


def head_module(layer: str) -> str:
    """Haiku's module for a layer of the FAC head."""
    last = "final_projection"
    return {
        "video_to_va/hidden": f"{VIDEO_TO_VA}/{last}_inner",
        "video_to_va/hidden_norm": _norm(VIDEO_TO_VA),
        "video_to_va/projection": f"{VIDEO_TO_VA}/{last}",
        "video_to_va/norm": _norm(VIDEO_TO_VA, 1),
        "audio_to_va": f"{AUDIO_TO_VA}/{last}",
        "va_to_vat/projection": f"{VA_TO_VAT}/{last}",
        "va_to_vat/norm": _norm(VA_TO_VAT),
        "text_to_vat": f"{TEXT_TO_VAT}/{last}",
    }[layer]


def variable_name(variable: str) -> str:
    """Haiku's name of a variable below its module, from ours."""
    return _VARIABLES[variable]
