"""Frames, samples and captions of a clip, against hand-made cases and plain NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from vatt_tf.data.input import sampling


def frames(stored, count, stride, offset):
    numbers = sampling.stored_frames(
        tf.constant(stored), count, tf.constant(stride, tf.float64), tf.constant(offset)
    )
    return numbers.numpy().tolist()


def test_frames_of_a_clip():
    assert frames(20, 4, 1.0, 3) == [3, 4, 5, 6]
    assert frames(20, 4, 2.0, 3) == [3, 5, 7, 9]
    # 25 fps read at 10: the stored frames nearest to 0, 0.1, 0.2, ... s.
    assert frames(50, 5, 2.5, 0) == [0, 3, 5, 8, 10]
    # 5 fps read at 10: each frame twice.
    assert frames(10, 4, 0.5, 0) == [0, 1, 1, 2]
    # Short records repeat from their beginning.
    assert frames(3, 7, 1.0, 0) == [0, 1, 2, 0, 1, 2, 0]
    assert frames(1, 3, 2.5, 0) == [0, 0, 0]


@pytest.mark.parametrize(
    ("stored", "count", "stride"),
    [(20, 4, 1.0), (20, 4, 2.5), (9, 4, 2.5), (8, 8, 1.0), (3, 4, 1.0)],
)
def test_random_offsets_cover_all_places_and_stay_inside(stored, count, stride):
    span = (count - 1) * stride
    offsets = {
        int(sampling.random_offset(tf.constant(stored), tf.constant(span, tf.float64), [i, 0]))
        for i in range(200)
    }
    # Facts A.2: uniform in [0, max(L - (T - 1) * stride, 1)).
    assert offsets == set(range(int(max(stored - span, 1))))
    if stored > span:
        assert max(round(o + span + 1e-9) for o in offsets) < stored


def test_spaced_offsets():
    def offsets(length, extent, windows):
        extent = tf.constant(extent, tf.float64)
        return [
            int(sampling.spaced_offset(tf.constant(length), extent, w, windows))
            for w in range(windows)
        ]

    assert offsets(100, 32.0, 1) == [34]
    assert offsets(99, 32.0, 1) == [33]
    assert offsets(100, 32.0, 4) == [0, 22, 45, 68]
    assert offsets(20, 32.0, 3) == [0, 0, 0]


def test_audio_window():
    signal = tf.range(1, 11, dtype=tf.float32)

    def cut(start, samples, step=1, period=0):
        start, step, period = (tf.constant(x, tf.int64) for x in (start, step, period))
        piece, count = sampling.audio_window(signal, start, samples, step, period)
        return piece.numpy().astype(int).tolist(), int(count)

    assert cut(2, 4) == ([3, 4, 5, 6], 4)
    assert cut(1, 4, step=2) == ([2, 4, 6, 8], 4)
    assert cut(8, 4) == ([9, 10, 0, 0], 2)
    assert cut(12, 3) == ([0, 0, 0], 0)
    # The video repeats after 4 samples: so does the sound.
    assert cut(0, 6, period=4) == ([1, 2, 3, 4, 1, 2], 6)
    # The video repeats after 12: two samples of silence before the sound starts again.
    assert cut(8, 6, period=12) == ([9, 10, 0, 0, 1, 2], 4)


def nearest(times, window, count, record=None, distance=1e9, **options):
    start, end = np.array(times, np.float64).T
    chosen = sampling.captions_near(
        tf.constant(start),
        tf.constant(end),
        tf.constant(window, tf.float64),
        tf.constant(window if record is None else record, tf.float64),
        count,
        distance=distance,
        **options,
    )
    return chosen.numpy().tolist()


def test_captions_grow_from_the_overlapping_one():
    times = [(0, 2), (2, 4), (4, 6), (6, 8), (20, 22)]
    assert nearest(times, (4.5, 5.5), 1) == [2]
    assert nearest(times, (4.5, 5.5), 3) == [2, 3, 1]
    # At the border the run grows to the other side.
    assert nearest(times, (0, 1), 4) == [0, 1, 2, 3]
    assert nearest(times, (21, 22), 3) == [4, 3, 2]
    # The far caption comes last, although it is a neighbour.
    assert nearest(times, (6.5, 7.0), 5) == [3, 2, 1, 0, 4]
    assert nearest(times, (6.5, 7.0), 9) == [3, 2, 1, 0, 4]
    # None overlaps: the nearest one.
    assert nearest(times, (15, 17), 2) == [4, 3]
    assert nearest(times, (9, 10), 1) == [3]
    # Order in the record does not matter.
    assert nearest(times[::-1], (4.5, 5.5), 3) == [2, 1, 3]


def test_a_clip_without_words_has_none():
    times = [(0, 2), (8.5, 9), (12, 12)]
    assert nearest(times, (4, 6), 2, distance=0) == []
    assert nearest(times, (2, 4), 2, distance=0) == []  # they touch
    assert nearest(times, (1.9, 4), 2, distance=0) == [0, 1]
    # A stated distance: 2 s on the left, 2.5 s on the right.
    assert nearest(times, (4, 6), 1, distance=1.9) == []
    assert nearest(times, (4, 6), 1, distance=2.0) == [0]
    # A caption may be a moment: it lies in the clip that it begins in.
    assert nearest(times, (11, 13), 1, distance=0) == nearest(times, (12, 13), 1, distance=0) == [2]
    assert nearest(times, (11, 12), 1, distance=0) == []


@pytest.mark.parametrize("own", range(5))
def test_a_clip_takes_the_caption_of_its_own_row(own):
    """Rows within each other: of the captions that cover a clip its own comes first."""
    times = [(0, 20), (4, 8), (10, 14), (15, 30), (18, 20)]
    start, end = times[own]
    assert nearest(times, (start, end), 1, distance=0) == [own]
    # In training too, wherever the window lies in the record.
    for begin in np.linspace(start, end - 1, 7):
        assert nearest(times, (begin, begin + 1), 1, times[own], distance=0) == [own]
    # The record ends with a frame, up to half a frame behind its row: at 5 frames a second 0.1 s.
    ends = (start, end + 0.1)
    assert nearest(times, ends, 1, distance=0, tolerance=0.101) == [own]


def test_of_captions_with_the_same_times_the_first_one_is_taken():
    assert nearest([(4, 8), (0, 20), (4, 8)], (4, 8), 1) == [0]
    # A text of the whole video is stored with the times of each clip.
    assert nearest([(4, 8), (4, 8.1), (0, 3)], (4, 8.1), 1, tolerance=0.101) == [0]


def test_captions_against_a_plain_loop():
    random = np.random.default_rng(0)
    for _ in range(30):
        total = int(random.integers(1, 8))
        start = np.sort(random.uniform(0, 50, total))
        end = start + random.uniform(0.5, 6, total)
        window = np.sort(random.uniform(0, 50, 2))
        overlap = np.minimum(end, window[1]) - np.maximum(start, window[0])
        low = high = int(np.argmax(overlap))
        expected = [low]
        while len(expected) < min(5, total):
            left = end[high] - start[low - 1] if low else np.inf
            right = end[high + 1] - start[low] if high + 1 < total else np.inf
            if left < right:
                low -= 1
                expected.append(low)
            else:
                high += 1
                expected.append(high)
        assert nearest(list(zip(start, end, strict=True)), window, 5) == expected
