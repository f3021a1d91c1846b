"""The towers and heads against outputs of the released code on its own tiny checkpoints."""

from __future__ import annotations

import gin
import numpy as np
import pytest
from keras import ops

from tests.pretrained.official import CONFIG_OF, CONFIGS
from vatt_tf import config
from vatt_tf.pretrained.official_vatt import convert_official
from vatt_tf.pretrained.source import SourceCheckpoint

TEXTS = 3  # Captions per clip in the reference batch.


def close(actual, expected, tolerance=1e-5):
    """Max abs error relative to the scale of the output."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    error = np.max(np.abs(actual - expected)) / max(np.max(np.abs(expected)), 1e-6)
    assert error <= tolerance, f"relative error {error:.2e}"


@pytest.fixture(scope="module", params=["tx_fac", "ut_fac"])
def loaded(request, shared_dir):
    """(folder, model with the official weights, reference arrays)."""
    folder = shared_dir / "reference" / "official_vatt" / request.param
    model = convert(folder, f"{request.param}.gin")
    return folder, model, np.load(folder / "reference.npz")


def convert(folder, gin_file):
    """Our model with the weights of a checkpoint of the released code."""
    config.clear()
    config.import_configurables()
    config.parse([str(CONFIGS / gin_file)], [])
    try:
        return convert_official(SourceCheckpoint(str(folder)), gin.get_configurable("vatt")()).model
    finally:
        config.clear()


def inputs_of(reference) -> dict:
    text = reference["input/text"]
    return {
        "video": reference["input/video"],
        "audio": reference["input/audio"],
        "text": text.reshape(-1, TEXTS, text.shape[-1]),
    }


def check_spaces(spaces, reference, prefix):
    close(spaces["va"]["video"], reference[f"{prefix}/video/toaud"])
    close(spaces["vt"]["video"], reference[f"{prefix}/video/totxt"])
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


def test_relative_buckets_of_the_release(shared_dir):
    from vatt_tf.layers.transformer.attention import relative_buckets

    path = shared_dir / "reference" / "official_vatt" / "tx_fac" / "reference.npz"
    reference = np.load(path)
    np.testing.assert_array_equal(
        relative_buckets(17), reference["trace/text/relative_bucket_17x17"]
    )
    rows = reference["trace/text/relative_bucket_200x200_row0_and_row199"]
    np.testing.assert_array_equal(relative_buckets(200)[[0, 199]], rows)


@pytest.mark.parametrize("name", sorted(name for name in CONFIG_OF if "finetune" in name))
def test_classifiers(name, shared_dir):
    folder = shared_dir / "reference" / "official_vatt" / name
    reference = np.load(folder / "reference.npz")
    model = convert(folder, CONFIG_OF[name])
    value = reference["input/images" if model.config.modality == "video" else "input/audio"]
    tower = model.tower
    close(tower.patch_embedding(value), reference["trace/embeddings"])
    outputs = tower(value)
    close(outputs["features_pooled"], reference["trace/features_pooled"])
    close(outputs["features"], reference["trace/features"])
    outputs = model({model.config.modality: value})
    close(outputs["logits"], reference["output/logits"])
    close(outputs["probabilities"], reference["output/probabilities"])
