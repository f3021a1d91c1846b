"""What a clip takes from a record: which frames, which samples, which captions.

Source: docs/reference.md, Temporal sampling and Captions.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from vatt_tf.data.media.resampling import MOST_STEP, REACH, low_pass

# The filters of all steps, one after the other: the step of a record is known in the graph only.
_FILTERS = np.concatenate([low_pass(step) for step in range(1, MOST_STEP + 1)]).astype(np.float32)


def stored_frames(
    stored: tf.Tensor, frames: int, stride: tf.Tensor, offset: tf.Tensor
) -> tf.Tensor:
    """Stored frame nearest to each frame time of a clip; short records repeat cyclically.

    Args:
        stored: int32, frames in the record (> 0).
        frames: Frames of the clip.
        stride: float64, stored frame rate over the clip's frame rate; need not be whole.
        offset: int32, stored frame that the clip begins with.

    Returns:
        int32 ``[frames]`` in ``[0, stored)``.
    """
    places = tf.cast(offset, tf.float64) + tf.range(frames, dtype=tf.float64) * stride
    return tf.cast(tf.floor(places + 0.5), tf.int32) % stored


def random_offset(length: tf.Tensor, span: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Offset uniform in ``[0, max(length - span, 1))``; int64.

    Args:
        length: Stored frames or samples.
        span: float64, distance between the first and the last frame of a clip.
        key: int64 ``[2]`` seed.
    """
    room = tf.maximum(tf.cast(length, tf.float64) - span, 1.0)
    uniform = tf.random.stateless_uniform([], key, dtype=tf.float64, alg="philox")
    # A room of 7.6 has the offsets 0..6: offset 7 would round to a frame past the end.
    return tf.cast(tf.floor(uniform * tf.floor(room)), tf.int64)


def spaced_offset(length: tf.Tensor, extent: tf.Tensor, window: int, windows: int) -> tf.Tensor:
    """Offset of one of several linearly spaced windows; the centre for a single one.

    Args:
        length: Stored frames or samples.
        extent: float64, frames (or samples) of the clip times the stride.
        window: Number of the window.
        windows: How many there are.

    Returns:
        int64 scalar.
    """
    room = tf.maximum(tf.cast(length, tf.float64) - extent, 0.0)
    share = 0.5 if windows == 1 else window / (windows - 1)
    return tf.cast(tf.floor(room * share), tf.int64)


def audio_window(
    waveform: tf.Tensor,
    start: tf.Tensor,
    samples: int,
    step: tf.Tensor,
    period: tf.Tensor,
    resampling: str = "strided",
) -> tuple[tf.Tensor, tf.Tensor]:
    """Cuts a clip's samples out of a record's signal.

    Samples past the end of the signal are zero. Where the video repeats (``period`` > 0) the
    sound starts again with it, so that both stay in sync.

    Args:
        waveform: float32 ``[stored]``.
        start: int64, first stored sample.
        samples: Samples of the clip.
        step: int64, stored samples per sample of the clip.
        period: int64, stored samples after which the clip begins again; 0: it does not.
        resampling: ``"filtered"`` or ``"strided"``, see ``ClipSpec.audio_resampling``.

    Returns:
        float32 ``[samples]``, and the number of samples in it that come from the signal (int32).
    """
    stored = tf.size(waveform, tf.int64)

    def straight() -> tuple[tf.Tensor, tf.Tensor]:
        first = tf.minimum(start, stored)
        piece = waveform[first : tf.minimum(stored, first + samples * step) : step]
        count = tf.size(piece)
        return tf.pad(piece, [[0, samples - count]]), count

    def repeated() -> tuple[tf.Tensor, tf.Tensor]:
        places = (start + tf.range(samples, dtype=tf.int64) * step) % period
        inside = places < stored
        piece = tf.gather(waveform, tf.minimum(places, stored - 1))
        return tf.where(inside, piece, 0.0), tf.math.count_nonzero(inside, dtype=tf.int32)

    def filtered() -> tuple[tf.Tensor, tf.Tensor]:
        places = start + tf.range(samples, dtype=tf.int64) * step
        begin = tf.where(period > 0, tf.constant(0, tf.int64), start)
        # One more, since a clip that repeats may begin within a step.
        piece = low_passed(waveform, begin, samples + 1, step)
        places = tf.where(period > 0, places % tf.maximum(period, 1), places)
        inside = places < stored
        piece = tf.where(inside, tf.gather(piece, (places - begin) // step), 0.0)
        return piece, tf.math.count_nonzero(inside, dtype=tf.int32)

    def strided() -> tuple[tf.Tensor, tf.Tensor]:
        return tf.cond(period > 0, repeated, straight)

    if resampling == "filtered":
        piece, count = tf.cond(step > 1, filtered, strided)
    else:
        piece, count = strided()
    return tf.ensure_shape(piece, [samples]), count


def low_passed(waveform: tf.Tensor, first: tf.Tensor, count: int, step: tf.Tensor) -> tf.Tensor:
    """Every ``step``-th sample of a signal without the frequencies that they cannot hold.

    Equals ``resampling.reduced`` of the package ``media``, up to the rounding of float32.

    Args:
        waveform: float32 ``[stored]``; silence before and after.
        first: int64, place of the first sample.
        count: How many.
        step: int64, from one to the next, at most ``MOST_STEP``.

    Returns:
        float32 ``[count]``.
    """
    stored = tf.size(waveform, tf.int64)
    begin, length = first - REACH * step, (count + 2 * REACH) * step
    end = tf.minimum(begin + length, stored)
    piece = waveform[tf.clip_by_value(begin, 0, stored) : tf.maximum(end, 0)]
    before = tf.minimum(tf.maximum(-begin, 0), length)
    piece = tf.pad(piece, [[before, length - before - tf.size(piece, tf.int64)]])
    # A convolution has a fixed stride: the samples of a step are the channels of one place.
    place = (step - 1) * (REACH * step + 1)
    taps = tf.constant(_FILTERS)[place : place + 2 * REACH * step + 1]
    taps = tf.pad(taps, [[0, step - 1]])
    piece = tf.reshape(piece, [1, count + 2 * REACH, step])
    taps = tf.reshape(taps, [2 * REACH + 1, step, 1])
    return tf.nn.conv1d(piece, taps, 1, "VALID")[0, :, 0]


def captions_near(
    start: tf.Tensor,
    end: tf.Tensor,
    window: tf.Tensor,
    record: tf.Tensor,
    count: int,
    *,
    distance: float = 0.0,
    tolerance: tf.Tensor | float = 1e-3,
) -> tf.Tensor:
    """Numbers of the captions nearest in time to a window (docs/reference.md, Captions).

    Begins with the caption that overlaps the window most and grows a contiguous run of captions,
    one at a time, to the side that keeps the time span shorter; at the ends of the list the run
    grows to the other side. Where captions lie within each other several overlap it as much: then
    it begins with the one whose times are those of the record, which is that of its own row, and of
    several such with the first one stored.

    Args:
        start: float64 ``[captions]``, begin of each caption in seconds.
        end: float64 ``[captions]``.
        window: float64 ``[2]``, begin and end of the clip on the same time line.
        record: float64 ``[2]``, begin and end of the record that the clip is cut from.
        count: Captions wanted.
        distance: Seconds that the nearest caption may lie beside the window; 0: it overlaps it.
        tolerance: Seconds that count as none: the end of a record is that of a frame.

    Returns:
        int32 ``[min(captions, count)]``, the best caption first, then in the order of growth;
        ``[0]`` where none is near enough.
    """
    total = tf.size(start)
    # Positive: seconds of overlap; negative: minus the gap.
    overlap = tf.minimum(end, window[1]) - tf.maximum(start, window[0])
    moment = (start == end) & (window[0] <= start) & (start < window[1])
    overlap = tf.where(moment, tolerance, overlap)
    most = tf.reduce_max(overlap)
    near = (most > 0) | ((distance > 0) & (most >= -distance))
    as_much = (overlap >= most - tolerance) & ((overlap > 0) | (most <= 0))
    unlike = tf.where(as_much, tf.abs(start - record[0]) + tf.abs(end - record[1]), np.inf)
    best = tf.argmax(unlike <= tf.reduce_min(unlike) + tolerance, output_type=tf.int32)
    by_time = tf.argsort(start, stable=True)
    start, end = tf.gather(start, by_time), tf.gather(end, by_time)
    low = high = best = tf.argsort(by_time)[best]
    chosen = [best]
    for _ in range(count - 1):
        left, right = tf.maximum(low - 1, 0), tf.minimum(high + 1, total - 1)
        span_left = tf.gather(end, high) - tf.gather(start, left)
        span_right = tf.gather(end, right) - tf.gather(start, low)
        go_left = (low > 0) & ((high == total - 1) | (span_left < span_right))
        low = tf.where(go_left, left, low)
        high = tf.where(go_left, high, right)
        # Past the last caption `right` repeats it; those are cut off below.
        chosen.append(tf.where(go_left, low, high))
    return tf.gather(by_time, tf.stack(chosen)[: tf.where(near, total, 0)])
