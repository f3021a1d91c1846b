"""Sound as the mean of its channels; pictures as a player shows them; covers."""

import wave

import av
import numpy as np
import pytest

from tests.data.media import numbered
from vatt_tf.data import media
from vatt_tf.data.media.tracks import container, video
from vatt_tf.data.media.tracks.audio import mono


def write_wav(path, samples, width=2):
    """samples float64 [n, channels]."""
    with wave.open(str(path), "wb") as file:
        file.setparams((samples.shape[1], width, 48_000, 0, "NONE", ""))
        file.writeframes(np.round(samples * 32767).astype("<i2").tobytes())
    return path


@pytest.mark.parametrize("channels", [1, 2, 3, 6, 7])
def test_mono_is_the_mean_of_the_channels(tmp_path, channels):
    random = np.random.default_rng(0)
    samples = random.uniform(-0.999, 0.999, (4800, channels))
    stored = np.round(samples * 32767) / 32768
    found = media.read_audio(write_wav(tmp_path / "a.wav", samples))
    np.testing.assert_allclose(found, stored.mean(axis=1), atol=1e-6)
    loud = np.repeat(np.sin(np.arange(9600) / 20.0)[:, None] * 0.99, channels, axis=1)
    found = media.read_audio(write_wav(tmp_path / "b.wav", loud))
    np.testing.assert_allclose(found, np.round(loud[:, 0] * 32767) / 32768, atol=1e-6)


def test_every_format_of_samples():
    values = np.array([[-0.5, 0.25, 0.0], [0.5, 0.25, -0.25]])
    for name, kind, scale, shift in (
        ("u8", np.uint8, 128, 128),
        ("s16", np.int16, 2**15, 0),
        ("s32", np.int32, 2**31, 0),
        ("flt", np.float32, 1, 0),
        ("dbl", np.float64, 1, 0),
    ):
        stored = (values * scale + shift).astype(kind)
        for planar in ("", "p"):
            data = stored if planar else stored.T.reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(data), format=name + planar, layout="stereo"
            )
            np.testing.assert_allclose(mono(frame), values.mean(axis=0), atol=1e-7, err_msg=name)


ONE = 1 << 16
# The first two rows of a display matrix, and what it does to a picture [H, W] of columns and rows.
MATRICES = [
    ((ONE, 0, 0, ONE), lambda x: x),
    ((-ONE, 0, 0, ONE), lambda x: x[:, ::-1]),
    ((ONE, 0, 0, -ONE), lambda x: x[::-1]),
    ((-ONE, 0, 0, -ONE), lambda x: x[::-1, ::-1]),
    ((0, ONE, -ONE, 0), lambda x: np.rot90(x, -1)),
    ((0, -ONE, ONE, 0), lambda x: np.rot90(x)),
    ((0, ONE, ONE, 0), lambda x: np.swapaxes(x, 0, 1)),
    ((0, -ONE, -ONE, 0), lambda x: np.swapaxes(x, 0, 1)[::-1, ::-1]),
]


@pytest.mark.parametrize(("matrix", "shown"), MATRICES)
def test_pictures_are_turned_and_mirrored(tmp_path, matrix, shown):
    """A point (x, y) is shown at (a x + c y, b x + d y), y downwards (ISO 14496-12)."""
    path = numbered.write(tmp_path / "a.mp4", 0.2, audio=None, first=(0b000001000011, 0))
    a, b, c, d = matrix
    identity = b"".join(v.to_bytes(4, "big", signed=True) for v in (ONE, 0, 0, 0, ONE, 0, 0, 0))
    turned = b"".join(v.to_bytes(4, "big", signed=True) for v in (a, b, 0, c, d, 0, 0, 0))
    data = path.read_bytes()
    at = data.index(identity, data.index(b"tkhd"))
    path.write_bytes(data[:at] + turned + data[at + len(turned) :])
    frame = media.read_clip(path, frame_rate=25).frames[0].mean(axis=2)
    wanted = shown(numbered.picture(0b000001000011)[..., 0])
    assert frame.shape == wanted.shape
    assert np.abs(frame - wanted).mean() < 6 and np.ptp(wanted) > 200
    info = media.probe(path)
    assert (info.height, info.width) == wanted.shape


def test_a_cover_is_no_picture_whatever_its_flags_say(tmp_path, monkeypatch):
    """FFmpeg prefers what is flagged as default, covers as well."""
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as file:
        streams = [file.add_stream("mpeg4", 25) for _ in range(2)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = numbered.WIDTH, numbered.HEIGHT, "yuv420p"
        for stream, first in zip(streams, (7, 1), strict=True):
            image = av.VideoFrame.from_ndarray(numbered.picture(first), format="rgb24")
            file.mux([*stream.encode(image), *stream.encode(None)])
    monkeypatch.setattr(container, "is_cover", lambda stream: stream.index == 0)
    monkeypatch.setattr(video, "is_cover", lambda stream: stream.index == 0)
    with av.open(str(path)) as file:
        assert file.streams.best("video").index == 0
        flagged = bool(file.streams[0].disposition & av.stream.Disposition.default)
    reader = media.ClipReader(path, frame_rate=25, sample_rate=0)
    (clip,) = reader.clips([(0.0, 0.04)])
    reader.close()
    assert numbered.numbers(np.stack(clip.frames)).tolist() == [1]
    assert any("attached picture" in note for note in reader.warnings) == flagged
