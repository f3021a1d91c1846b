"""Search by example: a video as query, compared piece by piece and whitened."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from vatt_tf.data import media
from vatt_tf.data.media.windows import covering_side, fit_frames, repeat
from vatt_tf.data.schema import ClipSpec
from vatt_tf.unit_length import l2_normalize

if TYPE_CHECKING:
    from vatt_tf.search_index.folder import Clips, IndexFolder

# Most pieces of a query; each is a pass through the model.
PIECES = 16
# A query is held in memory whole up to so many times the length of the model's clips.
WHOLE_CLIPS = 4
# Fraction of the mean variance that is added to that of every direction before whitening: a
# direction with a small variance over few clips is noise. Flat between 0.01 and 1.
RIDGE = 0.1
# Most clips from which the variances are estimated.
WHITENING_CLIPS = 10_000


def embed_pieces(
    embedder: Any, clip: ClipSpec, file: str | os.PathLike, space: str, clip_seconds: float
) -> np.ndarray:
    """Embeds pieces of the length of the index's clips: float32 [pieces, d].

    They are evenly spaced, by half a clip where the query is short: where the query was cut out of
    an indexed video, some of them begin near the start of a clip, wherever the cut was. Those of a
    query of less than two clips are a quarter of a clip apart and reach over its ends, where its
    first and last frame are held.

    Raises:
        UserError: If the file cannot be decoded.
    """
    duration = media.end_of(file, "video")
    length = round(clip_seconds * clip.frame_rate)
    if 0 < duration < 2 * clip_seconds and length <= WHOLE_CLIPS * clip.frames:
        frames = _read(file, clip, 2 * clip_seconds)
        windows = max(1, round(length / clip.frames))
        return embedder.embed_video(overlapping(frames, length), windows=windows, space=space)
    room = max(0.0, duration - clip_seconds)
    # Half a clip divides a cut of whole clips without a rest, but for rounding.
    count = min(PIECES, 1 + math.ceil(room / (clip_seconds / 2) - 1e-3))
    if count == 1:
        return embedder.embed_video(file, space=space)[None]
    starts = np.linspace(0.0, room, count).tolist()
    return np.stack(
        [
            embedder.embed_video(file, start=start, end=start + clip_seconds, space=space)
            for start in starts
        ]
    )


def _read(file: str | os.PathLike, clip: ClipSpec, seconds: float) -> np.ndarray:
    """Reads the first frames of a file, uint8 [T, height, width, 3]."""
    side = covering_side(media.probe(file), clip)
    read = media.read_clip(
        file, 0.0, seconds, frame_rate=clip.frame_rate, short_side=side, sample_rate=0
    )
    return fit_frames(read.frames, (clip.height, clip.width))


def overlapping(frames: np.ndarray, length: int) -> np.ndarray:
    """Returns windows [n, length, ...] of which frames [T, ...] fill at least half.

    Beyond their ends the first and the last frame are held. Frames of less than a window are also
    repeated, as the index does with a video of that length.
    """
    short = min(len(frames), length)
    first, last = short / 2 - length, len(frames) - short / 2
    count = 1 + max(1, round((last - first) / (length / 4)))
    starts = np.linspace(first, last, count).round().astype(int)
    places = np.clip(starts[:, None] + np.arange(length), 0, len(frames) - 1)
    windows = frames[places]
    if len(frames) < length:
        windows = np.concatenate([windows, repeat(frames, length)[None]])
    return windows


class Whitening:
    """Whitening of embeddings: equal variance in all directions over the clips of an index.

    The common part of all clips (one room, one speaker, a model of little training) dominates a
    cosine; whitening removes it (Jegou and Chum, ECCV 2012, for image descriptors).

    Args:
        vectors: float32 [n, d], of clips of the index.
    """

    def __init__(self, vectors: np.ndarray):
        self._mean = vectors.mean(axis=0)
        away = vectors - self._mean
        variances, self._axes = np.linalg.eigh(away.T @ away / len(away))
        mean = float(variances.mean())
        # Equal clips have no variance.
        ridge = RIDGE * mean if mean > 1e-12 else 1.0
        self._scale = 1 / np.sqrt(np.maximum(variances, 0) + ridge)

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """Whitens vectors [n, d] and scales them to length 1."""
        white = (vectors - self._mean) @ self._axes * self._scale
        return l2_normalize(white, dtype=None)


def whitening_of(index: IndexFolder, space: str, clips: Clips) -> Whitening:
    """Fits the whitening to the clips of an index, evenly spaced ones where they are many."""
    rows = np.arange(len(clips)) if clips.rows is None else clips.rows
    return Whitening(index.vectors_at(space, rows[:: math.ceil(len(rows) / WHITENING_CLIPS)]))


def order_by_video(cosines: np.ndarray, videos: np.ndarray) -> np.ndarray:
    """Scores clips by the mean of their own cosine and that of their video: [clips].

    That of a video is the mean over the pieces of its best clip's cosine (late interaction, as in
    ColBERT for words): one clip that is like one piece by chance does not make a video alike.

    Args:
        cosines: [pieces, clips].
        videos: [clips], number of the video of each.
    """
    alike = np.full((len(cosines), int(videos.max(initial=0)) + 1), -np.inf, np.float32)
    for piece, row in enumerate(cosines):
        np.maximum.at(alike[piece], videos, row)
    return (cosines.max(axis=0) + alike.mean(axis=0)[videos]) / 2
