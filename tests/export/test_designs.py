"""The convolutional designs, exported, served and in a Keras app, by what VATT is too."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import vatt_tf
from tests.export import tiny
from tests.models import test_convolutional as conv
from vatt_tf import export
from vatt_tf.data.text.tokenizer import ContentWordTokenizer
from vatt_tf.export import examples
from vatt_tf.models import io
from vatt_tf.models.vatt import build_vatt
from vatt_tf.serving.client.client import Client
from vatt_tf.serving.server.embedded import start_server

DESIGNS = [
    (conv.TSM, "mmv_shared", {"vat": {"video", "audio", "text"}}),
    (conv.TSM, "mmv_disjoint", {"va": {"video", "audio"}, "vt": {"video", "text"}}),
    (conv.S3D, "mmv_fac", {"va": {"video", "audio"}, "vat": {"video", "audio", "text"}}),
]


@pytest.fixture(params=DESIGNS, ids=lambda design: f"{design[0].kind}-{design[1]}")
def design(request, tmp_path):
    """A weights folder and the spaces of its model."""
    video, head, spaces = request.param
    keras.utils.set_random_seed(0)
    config = conv.mmv(video, head)
    tokenizer = ContentWordTokenizer(tiny.WORDS, conv.TEXT.max_tokens)
    clip = config.clip(frame_rate=5.0, sample_rate=tiny.CLIP.sample_rate)
    io.save_pretrained(str(tmp_path / "weights"), build_vatt(config), clip, tokenizer, step=1)
    return tmp_path / "weights", spaces


@pytest.mark.check
def test_same_everywhere(design, tmp_path):
    weights, spaces = design
    written = export.export_models(weights, tmp_path / "models")
    trained = vatt_tf.load(str(weights))
    assert {name: set(parts) for name, parts in trained.spaces.items()} == spaces
    inputs = {
        "video": examples.request("frames", trained.clip, 2),
        "audio": examples.request("waveform", trained.clip, 2),
        "text": examples.request("text", trained.clip, 2),
    }
    with start_server(tmp_path / "models") as server, Client(f"localhost:{server.port}") as client:
        for name, value in inputs.items():
            sent = [text.decode() for text in value] if name == "text" else value
            options = {"sample_rate": trained.clip.sample_rate} if name == "audio" else {}
            expected = getattr(trained, f"embed_{name}")(sent, space="all", **options)
            served = getattr(client, f"embed_{name}")(sent, space="all", **options)
            layer = keras.layers.TFSMLayer(str(written[name]), call_endpoint="serving_default")
            outputs = layer(tf.constant(value))
            assert set(expected) == set(served) == {s for s in spaces if name in spaces[s]}
            for space, embedding in expected.items():
                output = "embedding" if len(expected) == 1 else f"embedding_{space}"
                np.testing.assert_allclose(served[space], embedding, rtol=0, atol=1e-5)
                np.testing.assert_allclose(outputs[output], embedding, rtol=0, atol=1e-5)
