"""A video as query: piece by piece, because the mean over its pieces is like many other videos."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np

from vatt_tf.data import media

# Pieces of a query at most; each is a pass through the model.
PIECES = 16


def embed_pieces(
    embedder: Any, file: str | os.PathLike, space: str, clip_seconds: float
) -> np.ndarray:
    """Embeddings float32 [pieces, d] of pieces of the length of the index's clips.

    They are evenly spaced, in short queries by half a clip: where the query was cut out of an
    indexed video, some of them begin near the start of a clip, wherever the cut was.

    Raises:
        UserError: If the file cannot be decoded.
    """
    duration = media.probe(file).duration
    room = duration - clip_seconds
    # Half a clip divides a cut of whole clips without a rest, but for rounding.
    count = min(PIECES, 1 + math.ceil(room / (clip_seconds / 2) - 1e-3)) if room > 0 else 1
    if count == 1:
        return embedder.embed_video(file, space=space)[None]
    starts = np.linspace(0.0, room, count).tolist()
    return np.stack(
        [
            embedder.embed_video(file, start=start, end=start + clip_seconds, space=space)
            for start in starts
        ]
    )


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
