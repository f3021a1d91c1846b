"""A video as query: piece by piece, because the mean over its pieces is like many other videos."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from vatt_tf.data.media import clips as media
from vatt_tf.data.media.windows import covering_side, fit_frames, repeat
from vatt_tf.data.schema import ClipSpec
from vatt_tf.unit_length import l2_normalize

if TYPE_CHECKING:
    from vatt_tf.search_index.folder import Clips, IndexFolder

# Pieces of a query at most; each is a pass through the model.
PIECES = 16
# A query is held in memory whole while its clips are at most so many times as long as the model's.
WHOLE_CLIPS = 4
# Share of the mean variance that is added to that of every direction before whitening: directions
# that a few clips happen to vary in by little are noise. Flat between 0.01 and 1.
RIDGE = 0.1
# Clips from which the variances are taken at most.
WHITENING_CLIPS = 10_000


def embed_pieces(
    embedder: Any, clip: ClipSpec, file: str | os.PathLike, space: str, clip_seconds: float
) -> np.ndarray:
    """Embeddings float32 [pieces, d] of pieces of the length of the index's clips.

    They are evenly spaced, by half a clip where the query is short: where the query was cut out of
    an indexed video, some of them begin near the start of a clip, wherever the cut was. Those of a
    query of less than two clips are a quarter of a clip apart and reach over its ends, where its
    first and last frame are held.

    Raises:
        UserError: If the file cannot be decoded.
    """
    duration = media.probe(file).duration
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
    """The frames of the start of a file, uint8 [T, height, width, 3]."""
    side = covering_side(media.probe(file), clip)
    read = media.read_clip(
        file, 0.0, seconds, frame_rate=clip.frame_rate, short_side=side, sample_rate=0
    )
    return fit_frames(read.frames, (clip.height, clip.width))


def overlapping(frames: np.ndarray, length: int) -> np.ndarray:
    """Windows [n, length, ...] of which the frames [T, ...] fill at least half, as far as they go.

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
    """Gives all directions in which the clips of an index vary the same weight.

    What all clips share fills most of a cosine: one room, one speaker, or a model of little
    training. By example it is the rest that counts (Jegou and Chum, ECCV 2012, who whiten image
    descriptors).

    Args:
        vectors: float32 [n, d], of clips of the index.
    """

    def __init__(self, vectors: np.ndarray):
        self._mean = vectors.mean(axis=0)
        away = vectors - self._mean
        variances, self._axes = np.linalg.eigh(away.T @ away / len(away))
        mean = float(variances.mean())
        # Clips that are all the same differ in nothing.
        ridge = RIDGE * mean if mean > 1e-12 else 1.0
        self._scale = 1 / np.sqrt(np.maximum(variances, 0) + ridge)

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """Whitened vectors [n, d], of length 1."""
        white = (vectors - self._mean) @ self._axes * self._scale
        return l2_normalize(white, dtype=None)


def whitening_of(index: IndexFolder, space: str, clips: Clips) -> Whitening:
    """The whitening of an index's clips, from evenly spaced ones where they are many."""
    rows = np.arange(len(clips)) if clips.rows is None else clips.rows
    return Whitening(index.vectors_at(space, rows[:: math.ceil(len(rows) / WHITENING_CLIPS)]))


def order_by_video(cosines: np.ndarray, videos: np.ndarray) -> np.ndarray:
    """Scores [clips] to order clips by: the mean of their own cosine and that of their video.

    The video's is the mean over the pieces of its best clip's cosine (late interaction, as ColBERT
    has it for words): one clip that is like one piece by chance does not make a video alike.

    Args:
        cosines: [pieces, clips].
        videos: [clips], number of the video of each.
    """
    alike = np.full((len(cosines), int(videos.max(initial=0)) + 1), -np.inf, np.float32)
    for piece, row in enumerate(cosines):
        np.maximum.at(alike[piece], videos, row)
    return (cosines.max(axis=0) + alike.mean(axis=0)[videos]) / 2
