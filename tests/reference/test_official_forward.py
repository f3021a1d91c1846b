"""The towers and heads against outputs of the released code on its own tiny checkpoints."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops

from tests.reference import official_mapping as official
from vatt_tf.encoders.audio import SpectrogramEncoder, WaveformEncoder
from vatt_tf.encoders.video import VideoEncoder
from vatt_tf.models.config import (
    AgnosticTowerConfig,
    AudioTowerConfig,
    HeadConfig,
    TextTowerConfig,
    VattConfig,
    VideoTowerConfig,
)
from vatt_tf.models.vatt import VATT, build_vatt

TEXTS = 3  # Captions per clip in the reference batch.


def close(actual, expected, tolerance=1e-5):
    """Max abs error relative to the scale of the output."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    error = np.max(np.abs(actual - expected)) / max(np.max(np.abs(expected)), 1e-6)
    assert error <= tolerance, f"relative error {error:.2e}"


def specific_model() -> VATT:
    off = {"dropout_rate": 0.0, "num_layers": 2}
    no_drop = {"position_dropout_rate": 0.0, "drop_token_rate": 0.0, **off}
    config = VattConfig(
        video=VideoTowerConfig(
            frames=4, image_size=(16, 24), patch=(2, 8, 8), d_model=24, num_heads=3, d_kv=8,
            d_ff=48, **no_drop,
        ),
        audio=AudioTowerConfig(
            samples=2560, d_model=16, num_heads=2, d_kv=8, d_ff=32, **no_drop
        ),
        text=TextTowerConfig(
            vocab_size=512, embedding_dim=20, d_model=32, num_heads=4, d_kv=8, d_ff=64, **off
        ),
        head=HeadConfig(va_dim=24, vt_dim=16),
    )  # fmt: skip
    return build_vatt(config)


def agnostic_model() -> VATT:
    config = VattConfig(
        kind="agnostic",
        video=VideoTowerConfig(
            frames=4, image_size=(24, 24), patch=(2, 8, 8), drop_token_rate=0.0
        ),
        audio=AudioTowerConfig(samples=2560, drop_token_rate=0.0),
        text=TextTowerConfig(vocab_size=512, embedding_dim=20),
        agnostic=AgnosticTowerConfig(
            num_layers=2, d_model=24, num_heads=3, d_kv=8, d_ff=48, post_projection=28,
            dropout_rate=0.0, position_dropout_rate=0.0,
        ),
        head=HeadConfig(va_dim=24, vt_dim=16),
    )  # fmt: skip
    return build_vatt(config)


MAKERS = {"tx_fac": specific_model, "ut_fac": agnostic_model}


@pytest.fixture(scope="module", params=sorted(MAKERS))
def loaded(request, shared_dir):
    """(folder, model with the official weights, reference arrays)."""
    folder = shared_dir / "reference" / "official_vatt" / request.param
    model = MAKERS[request.param]()
    values = official.read_checkpoint(str(folder / "ckpt-500000"))
    assert official.assign(model.weights, values) == set(), "official variables nobody took"
    return folder, model, np.load(folder / "reference.npz")


def inputs_of(reference) -> dict:
    text = reference["input/text"]
    return {
        "video": reference["input/video"],
        "audio": reference["input/audio"],
        "text": text.reshape(-1, TEXTS, text.shape[-1]),
    }


def check_spaces(spaces, reference, prefix, video_tolerance=1e-5):
    close(spaces["va"]["video"], reference[f"{prefix}/video/toaud"], video_tolerance)
    close(spaces["vt"]["video"], reference[f"{prefix}/video/totxt"], video_tolerance)
    close(spaces["va"]["audio"], reference[f"{prefix}/audio/tovid"])
    text = ops.reshape(spaces["vt"]["text"], (-1, spaces["vt"]["text"].shape[-1]))
    close(text, reference[f"{prefix}/text/tovid"])


@pytest.mark.parametrize("modality", ["video", "audio", "text"])
def test_tower_outputs(loaded, modality):
    _, model, reference = loaded
    outputs = model.tower(modality)(reference[f"input/{modality}"])
    close(outputs["features_pooled"], reference[f"output/{modality}/features_pooled"])
    close(outputs["features"], reference[f"output/{modality}/features"])


@pytest.mark.parametrize("modality", ["video", "audio", "text"])
def test_traces_inside_the_transformer(loaded, modality):
    _, model, reference = loaded
    trace = {
        key.removeprefix(f"trace/{modality}/"): reference[key]
        for key in reference.files
        if key.startswith(f"trace/{modality}/")
    }
    transformer = model.tower(modality).transformer
    hidden, mask = trace.get("tokens_in"), None
    if modality == "text":
        words = np.not_equal(reference["input/text"], 0)
        mask = np.concatenate([np.ones_like(words[:, :1]), words], axis=1)
        hidden = trace["pre_proj"] if hidden is None else hidden
    bias = transformer.attention_bias(ops.convert_to_tensor(hidden), mask)
    for index, block in enumerate(transformer.blocks):
        weights = block.attention.attention_weights(block.attention_norm(hidden), bias)
        close(weights, trace[f"attention_layer{index}"])
        hidden = block(hidden, bias=bias)
        if f"hidden_after_layer{index}" in trace:
            close(hidden, trace[f"hidden_after_layer{index}"])
    close(transformer.final_norm(hidden), trace["encoder_out"])


def test_traces_before_the_transformer(loaded):
    folder, model, reference = loaded
    for modality in ("video", "audio"):
        tower, value = model.tower(modality), reference[f"input/{modality}"]
        patches = tower.patch_embedding(value)
        raw = reference[f"trace/{modality}/{'patches' if folder.name == 'tx_fac' else 'raw'}"]
        close(patches, raw.reshape(patches.shape))
        if folder.name == "ut_fac":
            patches = ops.gelu(tower.pre_projection(patches), approximate=False)
        positioned = tower.positions(patches)
        close(positioned, reference[f"trace/{modality}/after_pos"])
        close(tower.agg_token(positioned), reference[f"trace/{modality}/tokens_in"])


def test_embeddings_in_every_space(loaded):
    _, model, reference = loaded
    check_spaces(model(inputs_of(reference)), reference, "output/head_stack/bridge")


def test_training_mode_batch_statistics(loaded):
    folder, model, reference = loaded
    training = np.load(folder / "reference_training_mode.npz")
    norms = [v for v in model.head.weights if "moving_" in v.path]
    before = [np.asarray(variable) for variable in norms]
    spaces = model(inputs_of(reference), training=True)
    # BatchNorm over four clips, some units with mean**2 = 500 variances: the reference's
    # own float32 rounding is 1.5e-5 of the scale there (ours 6e-6, both measured against float64).
    check_spaces(spaces, training, "step0/output/head_stack/bridge", video_tolerance=2.5e-5)
    for variable, old in zip(norms, before, strict=True):
        (key,) = official.model_keys(variable.path)
        close(variable, training[f"after_step0/{key}"])
        variable.assign(old)


def test_relative_buckets_of_the_release(shared_dir):
    from vatt_tf.layers.attention import relative_buckets

    path = shared_dir / "reference" / "official_vatt" / "tx_fac" / "reference.npz"
    reference = np.load(path)
    np.testing.assert_array_equal(
        relative_buckets(17), reference["trace/text/relative_bucket_17x17"]
    )
    rows = reference["trace/text/relative_bucket_200x200_row0_and_row199"]
    np.testing.assert_array_equal(relative_buckets(200)[[0, 199]], rows)


SMALL = {"num_layers": 2, "d_kv": 8, "drop_token_rate": 0.0, "d_model": 24, "num_heads": 3}
VIDEO = {"frames": 4, "patch": (2, 8, 8), "d_ff": 48, "name": "video", **SMALL}
FINETUNED = {
    "vit_finetune": ("video", "images", lambda: VideoEncoder(image_size=(16, 24), **VIDEO)),
    "vit_finetune_from_ut": (
        "video",
        "images",
        lambda: VideoEncoder(image_size=(24, 24), pre_projection=True, post_projection=28, **VIDEO),
    ),
    "wat_finetune": (
        "waveform",
        "audio",
        lambda: WaveformEncoder(
            samples=2560, d_ff=32, name="audio", **{**SMALL, "d_model": 16, "num_heads": 2}
        ),
    ),
    "spt_finetune": (
        "log_mel",
        "audio",
        lambda: SpectrogramEncoder(frames=64, mel_bins=80, d_ff=48, name="audio", **SMALL),
    ),
}


@pytest.mark.parametrize("name", sorted(FINETUNED))
def test_finetuned_towers(name, shared_dir):
    folder = shared_dir / "reference" / "official_vatt" / name
    kind, key, make = FINETUNED[name]
    reference = np.load(folder / "reference.npz")
    value = reference[f"input/{key}"]
    encoder = make()
    encoder.build(value.shape)
    values = official.read_checkpoint(str(folder / "ckpt-100000"))
    left = official.assign(encoder.weights, values, official.finetuned_keys(kind))
    classifier = "model/layer_with_weights-0/_ops/cls"
    assert left == {f"{classifier}/kernel", f"{classifier}/bias"}
    close(encoder.patch_embedding(value), reference["trace/embeddings"])
    outputs = encoder(value)
    close(outputs["features_pooled"], reference["trace/features_pooled"])
    close(outputs["features"], reference["trace/features"])
    logits = (
        np.asarray(outputs["features_pooled"]) @ values[f"{classifier}/kernel"]
        + values[f"{classifier}/bias"]
    )
    close(logits, reference["output/logits"])
