"""A video as query: the pieces it is compared by, and the whitening of what is compared."""

import types

import numpy as np
import pytest

from tests.test_api import write_video
from vatt_tf.data.schema import ClipSpec
from vatt_tf.search_index.example import Whitening, embed_pieces, overlapping
from vatt_tf.search_index.spaces import choose_space

CLIP = ClipSpec(
    frames=4,
    height=16,
    width=16,
    frame_rate=10.0,
    audio="waveform",
    samples=16_000,
    sample_rate=16_000,
    texts=1,
    tokens=4,
)


class Recorder:
    """Takes what is to be embedded; an embedding is the brightness of each frame of a window."""

    def __init__(self):
        self.calls = []

    def embed_video(self, source, **settings):
        self.calls.append(settings)
        return source.mean((2, 3, 4)) if isinstance(source, np.ndarray) else np.zeros(4)


def test_windows_reach_over_the_ends():
    windows = overlapping(np.arange(4), 4)
    expected = [[0, 0, 0, 1], [0, 0, 1, 2], [0, 1, 2, 3], [1, 2, 3, 3], [2, 3, 3, 3]]
    np.testing.assert_array_equal(windows, expected)


def test_a_short_query_is_held_and_repeated():
    windows = overlapping(np.arange(2), 8)
    assert windows.shape == (6, 8)
    np.testing.assert_array_equal(windows[0], [0] * 7 + [0])  # the last place is the first frame's
    np.testing.assert_array_equal(windows[-1], [0, 1] * 4)
    assert all((np.diff(window) >= 0).all() for window in windows[:-1])
    # Some window has the two frames where they are in the clip that they were cut out of.
    assert any(window[3] == 0 and window[4] == 1 for window in windows)


@pytest.mark.parametrize(("levels", "calls"), [(4, 1), (6, 1), (9, 4), (60, 16)])
def test_pieces_of_files(tmp_path, levels, calls):
    """Of less than two clips in one call, of more one piece after another, and 16 at most."""
    write_video(tmp_path / "a.mp4", [4 * level for level in range(levels)])
    recorder = Recorder()
    found = embed_pieces(recorder, CLIP, tmp_path / "a.mp4", "vt", 0.4)
    assert len(recorder.calls) == calls
    if calls == 1:
        assert len(found) == 1 + levels and recorder.calls[0] == {"windows": 1, "space": "vt"}
        np.testing.assert_allclose(found[0, :3], found[0, 0], atol=2)  # the first frame, held
    else:
        assert len(found) == calls


def test_clips_of_many_windows_are_not_held_in_memory(tmp_path):
    write_video(tmp_path / "a.mp4", [100] * 19)
    recorder = Recorder()
    assert embed_pieces(recorder, CLIP, tmp_path / "a.mp4", "vt", 2.0).shape == (1, 4)
    assert recorder.calls == [{"space": "vt"}]


def test_whitening_finds_what_the_clips_differ_in():
    random = np.random.default_rng(0)
    common, lighting, own = np.eye(32)[0], np.eye(32)[1], np.zeros((20, 32))
    own[:, 2:] = random.normal(size=(20, 30))
    own /= np.linalg.norm(own, axis=1, keepdims=True)
    light = random.normal(size=20)

    def unit(vectors):
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    index = unit(5 * common + light[:, None] * lighting + 0.3 * own)
    # The same clips in the light of others.
    queries = unit(5 * common + np.roll(light, 1)[:, None] * lighting + 0.3 * own)
    right = np.arange(20)
    assert ((queries @ index.T).argmax(1) == right).mean() < 0.5
    white = Whitening(index.astype(np.float32))
    assert ((white(queries) @ white(index).T).argmax(1) == right).mean() > 0.8


def test_clips_that_are_all_the_same_are_whitened_to_numbers():
    white = Whitening(np.ones((3, 4), np.float32) / 2)
    assert np.isfinite(white(np.eye(4, dtype=np.float32))).all()
    assert np.isfinite(Whitening(np.ones((1, 4), np.float32) / 2)(np.eye(4))).all()


@pytest.mark.parametrize(
    ("spaces", "space"),
    [
        ({"vt": ["text"], "va": ["audio"]}, "va"),
        ({"vat": ["audio", "text"]}, "vat"),
        ({"vt": ["text"]}, "vt"),
    ],
)
def test_a_video_is_compared_in_the_fine_space(spaces, space):
    index = types.SimpleNamespace(spaces={name: {"partners": p} for name, p in spaces.items()})
    assert choose_space(index, "video", texts=False) == space
