"""FLOPs against the paper's tables."""

from __future__ import annotations

import dataclasses

import pytest

from tests.models import tiny
from vatt_tf.encoders.audio import AudioTowerConfig
from vatt_tf.encoders.sizes import TransformerSize
from vatt_tf.encoders.text import TextTowerConfig
from vatt_tf.encoders.video import VideoTowerConfig
from vatt_tf.layers.transformer.flops import transformer_flops
from vatt_tf.models.config.vatt import VattConfig
from vatt_tf.models.flops import encoder_flops, head_flops, step_flops


def video(size, **changes):
    return VattConfig(video=VideoTowerConfig(size=size, **changes))


@pytest.mark.parametrize(
    ("size", "full", "paper"),
    [("base", 937, 748), ("medium", 1490, 1239), ("large", 2961, 2457)],
)
def test_one_view_of_the_paper(size, full, paper):
    """32 x 320 x 320, in GFLOPs, from table 1 of the paper."""
    config = video(size, image_size=(320, 320))
    assert round(encoder_flops(config.tower("video"), convention="full") / 1e9) == full
    assert round(encoder_flops(config.tower("video"), convention="paper") / 1e9) == paper


@pytest.mark.parametrize(
    ("changes", "rate", "printed"),
    [
        ({"image_size": (224, 224)}, 0.0, 548.1),
        ({"frames": 64}, 0.0, 1222.1),
        ({"image_size": (320, 320)}, 0.75, 279.8),
        ({"image_size": (320, 320)}, 0.5, 572.5),
        ({"image_size": (320, 320)}, 0.25, 898.9),
        ({"image_size": (320, 320)}, 0.0, 1252.3),
    ],
)
def test_drop_token_table_of_the_paper(changes, rate, printed):
    """Table 6, Medium; the paper's count has norms and softmax in it, about 1 %."""
    config = video("medium", drop_token_rate=rate, **changes)
    flops = encoder_flops(config.tower("video"), training=True, convention="paper") / 1e9
    assert flops == pytest.approx(printed, rel=0.015)


def test_transformer_by_hand():
    size = TransformerSize(num_layers=2, d_model=3, num_heads=2, d_ff=7, d_kv=5)
    projections = 2 * 4 * (3 * 30 + 10 * 3)
    mlp = 2 * 4 * 2 * 3 * 7
    product = 2 * 4 * 4 * 10
    assert transformer_flops(size, 4, "full") == 2 * (projections + mlp + 2 * product)
    assert transformer_flops(size, 4, "paper") == 2 * (projections + mlp + product)
    # Relative keys and values: a second product of the same size beside each of the two.
    relative = transformer_flops(size, 4, "full", relative=True)
    assert relative == 2 * (projections + mlp + 4 * product)
    # Of the last block keys and values of four tokens; query, output, MLP and weights of one.
    last = 2 * 4 * 3 * 20 + 2 * (3 * 10 + 10 * 3) + 2 * 2 * 3 * 7 + 2 * (2 * 4 * 10)
    assert transformer_flops(size, 4) == projections + mlp + 2 * product + last
    with pytest.raises(ValueError, match="convention"):
        transformer_flops(size, 4, "other")


def test_step_of_the_released_base_models():
    """A BBS step on two clips with four texts each: 1,680 GFLOPs (measured), within 1 %."""
    flops = step_flops(VattConfig(), batch=2, texts=4, convention="full")
    assert flops["total"] / 1e9 == pytest.approx(1680, rel=0.01)
    assert flops["total"] == sum(value for name, value in flops.items() if name != "total")
    # The release also projects the patches that it drops.
    dropped = 2 * 784 * 3072 * 768
    assert (flops["video"] / 6 + dropped) / 1e9 == pytest.approx(163, rel=0.005)


def test_training_counts_three_passes_on_the_kept_tokens():
    config = tiny.specific()
    no_drop = dataclasses.replace(
        config,
        video=dataclasses.replace(config.video, drop_token_rate=0.0),
        audio=dataclasses.replace(config.audio, drop_token_rate=0.0),
    )
    forward, training = step_flops(no_drop, training=False), step_flops(no_drop)
    assert training == {name: 3 * value for name, value in forward.items()}
    dropped = step_flops(config)
    assert dropped["video"] < training["video"] and dropped["text"] == training["text"]
    assert step_flops(config, batch=5)["total"] == 5 * dropped["total"]


def test_heads_and_other_towers():
    assert head_flops(tiny.specific(), texts=1) == 2 * (12 * (16 + 12 + 16) + 12 * 8 + 16 * 8)
    assert head_flops(tiny.specific("shared"), texts=2) == 2 * 12 * (16 + 16 + 2 * 16)
    assert head_flops(tiny.specific("disjoint"), texts=1) == 2 * (
        12 * (16 + 12 + 16) + 8 * (16 + 8) + 16 * 8
    )
    shaw = tiny.specific(text=TextTowerConfig(**tiny.TEXT, **tiny.SIZE, positions="shaw"))
    size, plain = shaw.text.transformer_size(), tiny.specific()
    # Of the last block for AGG only.
    pairs = (size.num_layers - 1) * 7 * 7 + 7
    products = 2 * 2 * pairs * size.num_heads * size.d_kv
    assert encoder_flops(shaw.tower("text")) == encoder_flops(plain.tower("text")) + products
    linear = tiny.specific(text=TextTowerConfig(**tiny.TEXT, kind="linear", d_model=20))
    assert encoder_flops(linear.tower("text")) == 2 * 6 * 10 * 20
    spectrogram = tiny.specific(
        audio=AudioTowerConfig(input="log_mel", mel_frames=8, mel_bins=6, patch=(4, 2), **tiny.SIZE)
    )
    size = spectrogram.audio.transformer_size()
    expected = 2 * 6 * 8 * 16 + transformer_flops(size, 7)
    assert encoder_flops(spectrogram.tower("audio")) == expected


def test_agnostic_model_adds_its_projections():
    agnostic, specific = tiny.agnostic(), tiny.specific()
    for convention, tokens in (("full", 13), ("needed", 1)):
        with_them = encoder_flops(agnostic.tower("video"), convention=convention)
        extra = with_them - encoder_flops(specific.tower("video"), convention=convention)
        assert extra == 2 * 12 * 16 * 16 + 2 * tokens * 16 * 20
