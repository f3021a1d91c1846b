"""Windows of files, frames and samples."""

from __future__ import annotations

import av
import numpy as np
import pytest

from vatt_tf.data import media
from vatt_tf.data.input import video_ops
from vatt_tf.data.media.windows import (
    Span,
    audio_inputs,
    covering_side,
    fit_frames,
    text_inputs,
    video_inputs,
)
from vatt_tf.data.schema import ClipSpec
from vatt_tf.errors import UserError

CLIP = ClipSpec(frames=4, height=16, width=16, frame_rate=10.0, samples=100, sample_rate=1000)


@pytest.mark.parametrize(
    "size, target",
    [((24, 32), (16, 16)), ((53, 37), (16, 16)), ((33, 32), (16, 16)), ((10, 9), (16, 16))]
    + [((20, 31), (16, 24)), ((16, 40), (16, 16)), ((16, 16), (16, 16))],
)
def test_frames_are_fitted_as_in_the_pipeline(size, target):
    frames = np.random.default_rng(0).integers(0, 256, (2, *size, 3)).astype(np.uint8)
    top, left, height, width = np.asarray(video_ops.fitting_box(size, target))
    cut = frames[:, top : top + height, left : left + width]
    expected = np.asarray(video_ops.to_uint8(video_ops.resize(cut, target))).astype(int)
    found = fit_frames(frames, target)
    assert found.dtype == np.uint8 and np.abs(found - expected).max() <= 1
    assert (found != expected).mean() < 0.01  # halves may round either way


def numbered_frames(count):
    """Frames whose value is their number."""
    return np.broadcast_to(
        np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 16, 16, 3)
    )


@pytest.mark.parametrize(
    ("rate", "span", "expected"),
    [
        # 12 frames at the clip's rate: the whole, evenly; the centre for one window.
        (10.0, Span(windows=3), [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]),
        (10.0, Span(windows=1), [[4, 5, 6, 7]]),
        (10.0, Span(0.2, 0.7, 2), [[2, 3, 4, 5], [3, 4, 5, 6]]),
        # Twice the rate: every second frame. Half the rate: every frame twice.
        (20.0, Span(windows=1), [[2, 4, 6, 8]]),
        (5.0, Span(0.0, 0.4, 1), [[0, 1, 1, 2]]),
        # Shorter than a clip: from the start again.
        (10.0, Span(0.9, None, 4), [[9, 10, 11, 9]]),
    ],
)
def test_windows_of_frames(rate, span, expected):
    (windows,) = video_inputs(numbered_frames(12), CLIP, span, rate).clips
    assert [window[:, 0, 0, 0].tolist() for window in windows] == expected


def test_windows_of_samples():
    samples = np.arange(250, dtype=np.float32) / 250
    (windows,) = audio_inputs(samples, CLIP, Span(windows=2), CLIP.sample_rate).clips
    np.testing.assert_array_equal(list(windows), [samples[:100], samples[150:]])
    (windows,) = audio_inputs(samples, CLIP, Span(0.2), CLIP.sample_rate).clips
    np.testing.assert_array_equal(list(windows), [np.tile(samples[200:], 2)])


def test_windows_of_a_file(tmp_path):
    path = tmp_path / "grey.mp4"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for number in range(12):
            picture = np.full((32, 48, 3), 20 * number, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture)):
                file.mux(packet)
        file.mux(stream.encode(None))
    inputs = video_inputs([path], CLIP, Span(windows=3), None)
    (windows,) = inputs.clips
    means = [window.mean(axis=(1, 2, 3)) / 20 for window in windows]
    np.testing.assert_allclose(means, np.arange(12).reshape(3, 4), atol=0.3)
    assert inputs.count == 1 and not inputs.single
    assert covering_side(media.probe(path), CLIP) == 16


@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_a_recording_of_several_channels(dtype):
    """``[n, channels]``, as soundfile and SciPy give it; a batch keeps its rows."""
    rng = np.random.default_rng(0)
    channels = rng.uniform(-0.5, 0.5, (2000, 2))
    channels = channels.astype("float32") if dtype == "float32" else (3e4 * channels).astype(dtype)
    mono = channels.astype(np.float64).mean(axis=1) / (1 if dtype == "float32" else 32768)

    def read(samples):
        inputs = audio_inputs(samples, CLIP, Span(windows=1), CLIP.sample_rate)
        return inputs.single, [np.concatenate(list(windows)) for windows in inputs.clips]

    single, (found,) = read(channels)
    assert single
    np.testing.assert_allclose(found, read(mono)[1][0], atol=1e-6)
    np.testing.assert_array_equal(read(channels[:, :1])[1], read(channels[:, 0])[1])
    single, found = read(channels.T)
    assert not single and len(found) == 2
    np.testing.assert_array_equal(found[1], read(channels[:, 1])[1][0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Span(2.0, 1.0), "expected 0 <= start < end"),
        (lambda: Span(windows=0), "windows must be at least 1"),
        (lambda: video_inputs("none.mp4", CLIP, Span(), None), "none.mp4: no such file"),
        (lambda: video_inputs(["x.mp4"], CLIP, Span(), 5.0), "files carry their own"),
        (lambda: video_inputs(np.zeros((4, 8, 8, 3)), CLIP, Span(), None), "expected uint8"),
        (lambda: audio_inputs(np.full(9, 300.0), CLIP, Span(), None), "divide int16"),
        (lambda: text_inputs(["a", " "]), "string 1 is ' '"),
    ],
)
def test_what_is_no_input(call, message):
    with pytest.raises(UserError, match=message):
        call()
