"""Results of a search."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Hit:
    """Found moment: one clip, or neighbouring ones, with the score of the best.

    The name opens the file; ``vatt_tf.paths.shown`` makes one of odd bytes fit to print.

    Attributes:
        file: File name in the folder of videos.
        start: In seconds.
        end: In seconds.
        score: Cosine with the query; None where no model was used.
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
    """Result of a search: hits, best first, and the method.

    Attributes:
        query: Words, or the name of a file.
        hits: Moments.
        space: Common space of the embeddings; "" where no model was used.
        method: How the clips were compared.
        clips: Clips in the index.
        videos: Folder of the videos.
        index: Folder of the index.
        unknown: Words of the query that are not in the model's vocabulary.
        notes: Notes for the user, one line each.
        calibration: Line about the calibration of the scores, or why there is none; "" where no
            model was used.
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
    """Formats seconds as ``m:ss.s`` or ``h:mm:ss.s``."""
    tenths = round(10 * seconds)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    start = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{start}:{rest // 10:02d}.{rest % 10}"
