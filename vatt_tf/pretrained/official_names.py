"""Names of the released VATT code's variables for ours (docs/reference.md, Checkpoint layout).

The released code numbers its objects and shortens its words; we name layers after what they do. A
fused ``qkv`` takes three official variables, concatenated along the last axis.
"""

from __future__ import annotations

import re

BASE = "model/layer_with_weights-0/_base_layer"
HEAD = "model/layer_with_weights-0/_head_layer/_bridge_heads/0"
FINETUNE = "model/layer_with_weights-0/_base"
CLASSIFIER = "model/layer_with_weights-0/_ops/cls"
UNIFIED = f"{BASE}/unified_backbone/unified_transformer"

PATCH = {"video": "voxel_to_patch", "waveform": "wave_to_patch", "log_mel": "spectrum_to_patch"}
_SHORT = {"video": "vid", "audio": "aud", "text": "txt"}


def _transformer(path: str, attention_norm: str, attention: str) -> list[str]:
    """Names below the official stack for a path below our ``transformer/``."""
    path = re.sub(r"^block_(\d+)/", r"layers/\1/", path)
    path = path.replace("/attention_norm/", f"/{attention_norm}/")
    path = path.replace("/attention/output/", f"/{attention}/o/")
    path = path.replace("/attention/qkv/", f"/{attention}/qkv/")
    path = path.replace("/mlp_norm/", "/feed_forward/layer_norm/")
    path = path.replace("/mlp_hidden/", "/feed_forward/mlp/wi/")
    path = path.replace("/mlp_output/", "/feed_forward/mlp/wo/")
    path = path.replace("final_norm/", "final_layer_norm/")
    if "/qkv/" in path:
        return [path.replace("/qkv/", f"/{letter}/") for letter in "qkv"]
    return [path]


def _positions(path: str) -> str:
    path = path.replace("positions/layer_norm", "positions/layernorm")
    path = path.replace("spectral_embeddings", "spectoral_embeddings")  # As the release spells it.
    path = re.sub(r"(\w+)_embeddings$", r"\1_position_embeddings/embeddings", path)
    return path.removeprefix("positions/")


def tower_keys(path: str, kind: str) -> list[str]:
    """Official names of one variable of a specific tower.

    Args:
        path: Our path below the tower, e.g. ``transformer/block_0/mlp_norm/gamma``.
        kind: ``"video"``, ``"waveform"``, ``"log_mel"`` or ``"text"`` (T5).
    """
    if path.startswith("transformer/"):
        path = path.removeprefix("transformer/")
        if kind != "text":
            return [f"tx/{name}" for name in _transformer(path, "layer_norm", "mha")]
        if path == "position_bias/embeddings":
            return ["base_lm/layers/0/self_attention/attention/relative_attention_bias/embeddings"]
        path = path.replace("norm/scale", "norm/weight")
        names = _transformer(path, "self_attention/layer_norm", "self_attention/attention")
        return [f"base_lm/{name}" for name in names]
    if path.startswith("positions/"):
        return [f"pos_embedding_lookup/{_positions(path)}"]
    path = path.replace("agg_token/embedding", "agg_embedding")
    path = path.replace("word_embedding/", "embedding/")
    path = path.replace("patch_embedding/", f"{PATCH.get(kind)}/")
    return [re.sub(r"^(pre|post)_projection/", r"\1_proj/", path)]


def unified_keys(path: str) -> list[str]:
    """Official names of one variable of the agnostic tower, by our path below it."""
    modality, _, rest = path.partition("/")
    if modality == "transformer":
        return [f"tx/{name}" for name in _transformer(rest, "layer_norm", "mha")]
    if rest == "agg_token/embedding":
        return [f"{_SHORT[modality]}_agg_embedding"]
    if rest.startswith("positions/"):
        return [f"pos_embedding_lookup/{modality}/{_positions(rest)}"]
    layer, variable = rest.rsplit("/", 1)
    names = {
        "patch_embedding": "raw_to_embeddings",
        "word_embedding": "raw_to_embeddings",
        "pre_projection": "pre_proj",
        "post_projection": "post_proj",
    }
    return [f"{names[layer]}/{modality}/{variable}"]


def head_keys(path: str) -> list[str]:
    """Official names of one variable of the FAC head, by our path below it."""
    names = {
        "video_to_va/hidden_norm": "hid_to_va/pre_bn",
        "video_to_va/hidden": "vid_to_hid",
        "video_to_va/projection": "hid_to_va/dense",
        "video_to_va/norm": "hid_to_va/bn",
        "audio_to_va": "aud_to_va",
        "va_to_vt/projection": "va_to_vat/dense",
        "va_to_vt/norm": "va_to_vat/bn",
        "text_to_vt": "txt_to_vat",
    }
    layer, variable = path.rsplit("/", 1)
    return [f"{names[layer]}/{variable}"]


def model_keys(path: str) -> list[str]:
    """Official keys of one variable of a VATT model, by its path (``vatt/video/...``)."""
    _, part, rest = path.split("/", 2)
    if part == "head":
        return [f"{HEAD}/{name}" for name in head_keys(rest)]
    if part == "agnostic":
        return [f"{UNIFIED}/{name}" for name in unified_keys(rest)]
    backbone = f"{BASE}/{_SHORT[part]}_backbone" + ("" if part == "text" else "/_base")
    kind = {"audio": "waveform"}.get(part, part)
    return [f"{backbone}/{name}" for name in tower_keys(rest, kind)]


def classifier_keys(path: str, kind: str) -> list[str]:
    """Official keys of one variable of a classifier, by its path.

    Args:
        path: E.g. ``classifier/video/agg_token/embedding`` or ``classifier/head/dense/kernel``.
        kind: ``"video"``, ``"waveform"`` or ``"log_mel"``.
    """
    _, part, rest = path.split("/", 2)
    if part == "head":
        return [f"{CLASSIFIER}/{rest.removeprefix('dense/')}"]
    return [f"{FINETUNE}/{name}" for name in tower_keys(rest, kind)]
