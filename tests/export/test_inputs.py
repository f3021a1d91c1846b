"""The graphs' own checks: what TensorFlow Serving would let through."""

from __future__ import annotations

import io as io_lib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.export import tiny
from vatt_tf.encoders.base import PatchEncoder
from vatt_tf.errors import UserError
from vatt_tf.export import examples, inputs, servables
from vatt_tf.models import io

CLIP = tiny.CLIP
FRAMES = examples.frames(2, (CLIP.frames, CLIP.height, CLIP.width))
SOUND = examples.sound(2, CLIP.samples)
JPEGS = examples.encode_frames(examples.frames(2, (CLIP.frames, 20, 36)))
WAVS = examples.encode_sounds(SOUND, CLIP.sample_rate)


def announced(encoded: bytes, height: int, width: int) -> bytes:
    """A JPEG whose header tells another size."""
    place = encoded.index(b"\xff\xc0") + 5
    return (
        encoded[:place] + bytes([*divmod(height, 256), *divmod(width, 256)]) + encoded[place + 4 :]
    )


def changed(values: np.ndarray, value: bytes) -> np.ndarray:
    """A copy with another last item."""
    values = values.copy()
    values[(-1,) * values.ndim] = value
    return values


@pytest.mark.parametrize(
    ("signature", "sent", "message"),
    [
        ("serving_default", FRAMES[0], r"Shape of tensor .*\[4,16,24,3\] is not compatible"),
        ("serving_default", FRAMES[..., :1], "is not compatible with expected shape"),
        ("serving_default", FRAMES[:0], "frames: the batch is empty, expected at least one row"),
        ("serving_default", FRAMES[:, :1], r"frames: clips of \[1 16 24\] \(frames, height"),
        ("encoded", JPEGS[:, :1], r"frames_bytes: clips of \[1 16 24\] \(frames, height"),
        ("encoded", JPEGS[0], "is not compatible with expected shape"),
        ("encoded", JPEGS[:0], "frames_bytes: the batch is empty"),
        ("encoded", changed(JPEGS, b""), r"frames_bytes: no JPEG at \[1 3\] \(clip, frame\)"),
        ("encoded", changed(JPEGS, b"\x89PNG\r\n\x1a\n"), r"no JPEG at \[1 3\]"),
        ("encoded", changed(JPEGS, JPEGS[0, 0][:60]), "JPEG"),
        ("encoded", changed(JPEGS, JPEGS[0, 0][:-99]), "Invalid JPEG data or crop window"),
        ("encoded", changed(JPEGS, announced(JPEGS[0, 0], 20, 37)), "frames of different sizes"),
        (
            "encoded",
            np.full((1, 4), announced(JPEGS[0, 0], 65500, 65500), object),
            r"frame of \[65500 65500\] pixels \(height, width\), at most 33554432",
        ),
    ],
)
def test_video(models, signature, sent, message):
    name = "frames" if signature == "serving_default" else "frames_bytes"
    with pytest.raises(UserError, match=message):
        models.video({name: sent}, signature=signature)


def test_a_frame_of_many_scans_is_refused_before_it_is_decoded(models):
    """The work of a progressive JPEG is that of its scans, which cost a sender few bytes."""
    buffer = io_lib.BytesIO()
    Image.new("RGB", (1500, 1000)).save(buffer, "JPEG", progressive=True, quality=1)
    encoded = buffer.getvalue()
    scans = encoded.count(b"\xff\xda")
    good = models.video(
        {"frames_bytes": np.full((1, CLIP.frames), encoded, object)}, signature="encoded"
    )
    assert 1 < scans < 50 and np.isfinite(good["features"]).all()
    last = encoded[encoded.rindex(b"\xff\xda") : -2]
    many = encoded[:-2] + last * 300 + encoded[-2:]
    with pytest.raises(
        UserError, match=rf"{4 * (scans + 300)} scans in 4 frames of \[1000 1500\] pixels"
    ):
        models.video({"frames_bytes": np.full((1, CLIP.frames), many, object)}, signature="encoded")


@pytest.mark.parametrize(
    ("signature", "sent", "message"),
    [
        ("serving_default", SOUND[0], "is not compatible with expected shape"),
        ("serving_default", SOUND[:0], "waveform: the batch is empty"),
        ("serving_default", SOUND[:, :0], "waveform: clips of 0 samples, expected"),
        ("serving_default", SOUND * np.float32(np.nan), "waveform: holds NaN or infinity"),
        ("serving_default", SOUND * 32768, r"values up to .*, expected \[-1, 1\]; divide int16"),
        ("encoded", WAVS[:0], "audio_bytes: the batch is empty"),
        ("encoded", changed(WAVS, b""), "Data too short"),
        ("encoded", changed(WAVS, WAVS[0][:100]), "Data too short"),
        ("encoded", changed(WAVS, b"x" * 100), "Expected RIFF"),
        (
            "encoded",
            examples.encode_sounds(SOUND, 900),
            "audio_bytes: 900 samples per second, expected 800; resample it",
        ),
        ("encoded", examples.encode_sounds(SOUND[:, :0], 800), "the WAV holds no samples"),
    ],
)
def test_audio(models, signature, sent, message):
    name = "waveform" if signature == "serving_default" else "audio_bytes"
    with pytest.raises(UserError, match=message):
        models.audio({name: sent}, signature=signature)


def test_text(models):
    with pytest.raises(UserError, match="is not compatible with expected shape"):
        models.text({"text": np.array([[b"a"]], object)})
    with pytest.raises(UserError, match="text: the batch is empty"):
        models.text({"text": np.array([], object)})
    # Bytes that are no UTF-8 count as spaces, an empty string as no words.
    odd, plain, empty = models.text({"text": np.array([b"red\xff\xfe", b"red", b""], object)})[
        "embedding"
    ]
    np.testing.assert_allclose(odd, plain, atol=1e-6)
    assert np.isfinite(empty).all()


def test_sound_is_mixed_down_and_repeated_or_cut(models):
    wave = np.round(SOUND * 32767) / 32768  # as 16 bits keep it
    stereo = (wave + wave[:, ::-1]) / 2
    for length in (CLIP.samples - 100, CLIP.samples + 100):
        long = np.pad(wave, [(0, 0), (0, 100)])[:, :length]
        mono = (long + long[:, ::-1]) / 2
        encoded = examples.encode_sounds(long.astype(np.float32), CLIP.sample_rate)
        expected = mono[:, np.arange(CLIP.samples) % length].astype(np.float32)
        found = models.audio({"audio_bytes": encoded}, signature="encoded")["embedding"]
        expected = models.audio({"waveform": expected})["embedding"]
        np.testing.assert_allclose(found, expected, atol=2e-3)
    assert (
        np.abs(models.audio({"waveform": stereo.astype(np.float32)})["embedding"] - found).max()
        > 0.02
    )


def test_frames_of_each_clip_may_have_another_size(models):
    wide = examples.encode_frames(examples.frames(1, (CLIP.frames, 20, 80)))
    tall = examples.encode_frames(examples.frames(1, (CLIP.frames, 90, 30)))
    both = models.video({"frames_bytes": np.concatenate([wide, tall])}, signature="encoded")
    for row, alone in enumerate((wide, tall)):
        single = models.video({"frames_bytes": alone}, signature="encoded")
        np.testing.assert_allclose(both["embedding_vt"][row], single["embedding_vt"][0], atol=1e-6)


def test_rows_do_not_depend_on_each_other(models):
    together = models.video({"frames": FRAMES})["embedding_va"]
    assert np.abs(together[0] - together[1]).max() > 0.01
    alone = models.video({"frames": FRAMES[1:]})["embedding_va"]
    np.testing.assert_allclose(together[1:], alone, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-6)


def test_a_model_of_one_size_takes_no_other(weights_folder, monkeypatch):
    monkeypatch.setattr(PatchEncoder, "any_size", False)
    (video,) = servables.read_servables(weights_folder, ["video"])
    assert video.description["any_size"] is False
    raw = video.module()[1]["serving_default"]
    assert raw(tf.constant(FRAMES))["features"].shape == (2, 16)
    other = examples.frames(1, (CLIP.frames, CLIP.height, 2 * CLIP.width))
    message = r"clips of \[4 16 48\] .* expected \[4, 16, 24\]"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        raw(tf.constant(other))
    model, _, _ = io.load_pretrained(str(weights_folder))
    assert inputs.sample_limits(CLIP, model.tower("audio")) == (512, 512)
