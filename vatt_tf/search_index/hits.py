"""What a search finds."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Hit:
    """A found moment: one clip, or neighbouring ones. The best clip gives the score.

    The name opens the file; ``vatt_tf.paths.shown`` makes one of odd bytes fit to print.

    Attributes:
        file: File name in the folder of videos.
        start: In seconds.
        end: In seconds.
        score: Cosine with the query; None where no model was asked.
        found_by: ``"words"``, ``"embedding"`` or ``"both"``.
        words: Words of the query that are in captions of the moment or in the file name.
        missing: Whether the file cannot be opened.
        true_higher: Fraction of held-out true pairs of query and video that score higher; None
            where it was not measured.
        random_higher: The same of random pairs.
    """

    file: str
    start: float
    end: float
    score: float | None
    found_by: str = "embedding"
    words: tuple[str, ...] = ()
    missing: bool = False
    true_higher: float | None = None
    random_higher: float | None = None


@dataclasses.dataclass(frozen=True)
class Found:
    """Hits, best first, and how they were found.

    Attributes:
        query: Words, or the name of a file.
        hits: Moments.
        space: Common space of the embeddings; "" where no model was asked.
        method: How the clips were compared.
        clips: Clips in the index.
        videos: Folder of the videos.
        index: Folder of the index.
        unknown: Words of the query that the model does not know.
        notes: What the user should know, a line each.
        calibration: What the scores are read against, or why they are not; "" where no model was
            asked.
    """

    query: str
    hits: list[Hit]
    space: str
    method: str
    clips: int
    videos: str
    index: str = ""
    unknown: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    calibration: str = ""


def clock(seconds: float) -> str:
    """Seconds as ``m:ss.s`` or ``h:mm:ss.s``."""
    tenths = round(10 * seconds)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    start = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{start}:{rest // 10:02d}.{rest % 10}"
