"""Searches an index of clips by words, by a sound or by an example.

Usage::

    python -m vatt_tf.search --index=INDEX "a red circle moves left"
    python -m vatt_tf.search --index=INDEX --audio=FILE --top=20 --html=found.html

The query goes through the model that the index was made with; --run_dir, --models and --server say
where that is now, when it has moved.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import pathlib
import sys
from typing import Any

from vatt_tf import cli, paths
from vatt_tf.errors import NO_TEXT_TOWER, UserError
from vatt_tf.output_folder import check_replaceable

# Rows asked for per row that is shown: overlapping clips are left out.
SURPLUS = 8


def build_parser() -> argparse.ArgumentParser:
    """Flags of ``python -m vatt_tf.search``."""
    parser = cli.ArgumentParser(
        prog="python -m vatt_tf.search",
        description=__doc__,
    )
    add = parser.add_argument
    add("text", nargs="?", help="words to look for")
    add("--index", type=cli.path, required=True, help="folder written by vatt_tf.embed")
    add("--audio", type=cli.path, help="sound (or video) file: clips that look like its sound")
    add("--video", type=cli.path, help="video file: clips like it")
    add("--top", type=cli.positive, default=10, help="clips shown (default: 10)")
    add("--run_dir", type=cli.path, help="run directory or weights folder of the index's model")
    add("--models", type=cli.path, help="exported models of the index's model")
    add("--server", help="host:port of a server that has the index's model")
    add("--exact", action="store_true", help="compare with every clip of a large index")
    add("--html", type=cli.path, metavar="FILE", help="also write a page with frames of the clips")
    return parser


@dataclasses.dataclass(frozen=True)
class Hit:
    """A found clip: file name in the folder of videos, seconds, and cosine.

    The name opens the file; ``vatt_tf.paths.shown`` makes one of odd bytes fit to print.
    """

    file: str
    start: float
    end: float
    score: float


@dataclasses.dataclass(frozen=True)
class Found:
    """Hits, best first, and how they were found."""

    query: str
    hits: list[Hit]
    space: str
    method: str
    clips: int
    videos: str


def search(
    index: str | os.PathLike,
    text: str | None = None,
    *,
    audio: str | os.PathLike | None = None,
    video: str | os.PathLike | None = None,
    top: int = 10,
    run_dir: str | None = None,
    models: str | None = None,
    server: str | None = None,
    exact: bool = False,
) -> Found:
    """Searches an index; one of ``text``, ``audio`` and ``video`` is the query.

    Args:
        index: Folder of the index.
        text: Words.
        audio: Sound or video file whose sound is the query.
        video: Video file.
        top: Clips to find. Of clips of a video that overlap, the best one counts.
        run_dir: Where the model is, unless where it was; or
        models: the same as exported models; or
        server: the same as ``host:port``.
        exact: Compare with every clip, however many there are.

    Raises:
        UserError: If the index, the query or the model cannot be used.
    """
    from vatt_tf.search_index import folder, nearest
    from vatt_tf.search_index.models import Source, open_model

    queries = {"text": text, "audio": audio, "video": video}
    given = {name: value for name, value in queries.items() if value is not None}
    if len(given) != 1:
        found = " and ".join(given) or "nothing"
        raise UserError(f"expected one query: words, --audio=FILE or --video=FILE; found {found}")
    if text is not None and not paths.is_utf8(text):
        raise UserError(f"the words '{paths.shown(text)}' are not valid UTF-8; write them in UTF-8")
    ((modality, query),) = given.items()
    opened = folder.open_index(index)
    space = _space(opened, modality)
    clips = opened.clips()
    if not len(clips):
        raise UserError(f"{index}: holds no clip yet; let vatt_tf.embed finish some videos")
    source = Source.from_flags({"run_dir": run_dir, "models": models, "server": server})
    remembered = opened.manifest["model"]
    model = open_model(source or Source(remembered["kind"], remembered["address"]))
    if model.hash != remembered["hash"]:
        raise UserError(
            f"{model.source.address} has the weights {model.hash[:12]}, the index {index} was made "
            f"with {remembered['hash'][:12]} ({remembered['address']}): scores between two models "
            "mean nothing; give the right model, or embed the videos anew into another index"
        )
    vector = getattr(model.embedder, f"embed_{modality}")(query, space=space)
    finder = nearest.open_search(opened, space, clips, exact)
    scores, rows = finder.search(vector[None], top * SURPLUS)
    videos = opened.manifest["settings"]["videos"]
    hits = _hits(clips, scores[0], rows[0], top)
    return Found(str(query), hits, space, finder.name, len(clips), videos)


def _space(index: Any, modality: str) -> str:
    """Space of the index in which the modality can be compared with its clips."""
    for space, facts in index.spaces.items():
        if modality in facts["partners"]:
            return space
    if modality == "video":
        # Any space will do: what matches words is what people mean by alike.
        return next((s for s, f in index.spaces.items() if "text" in f["partners"]), None) or next(
            iter(index.spaces)
        )
    if modality == "text":
        raise UserError(
            f"{index.path}: cannot be searched by words: {NO_TEXT_TOWER}. Search it by example "
            "(--video=FILE) or by sound (--audio=FILE)"
        )
    raise UserError(
        f"{index.path}: cannot be searched by {modality}: its model has no space that the clips "
        f"share with {modality} (spaces: {index.spaces})"
    )


def _hits(clips: Any, scores: Any, rows: Any, top: int) -> list[Hit]:
    """The best clips, without those that overlap a better one of the same video."""
    hits: list[Hit] = []
    taken: dict[int, list[tuple[float, float]]] = {}
    for score, row in zip(scores.tolist(), rows.tolist(), strict=True):
        if row < 0 or len(hits) == top:
            break
        start, end = clips.times[row].tolist()
        others = taken.setdefault(int(clips.video[row]), [])
        # A millisecond: times are rounded.
        if any(start < other_end - 1e-3 and other < end - 1e-3 for other, other_end in others):
            continue
        others.append((start, end))
        name = clips.files[clips.video[row]]
        hits.append(Hit(name, round(start, 3), round(end, 3), score))
    return hits


def format_found(found: Found) -> str:
    """The hits as a table."""
    lines = [
        paths.shown(found.query),
        f"  best {len(found.hits)} of {found.clips} clips, space {found.space}, {found.method}",
        f"  videos in {paths.shown(found.videos)}",
        "",
    ]
    names = [paths.shown(hit.file) for hit in found.hits]
    width = max(map(len, names), default=0)
    for rank, (hit, name) in enumerate(zip(found.hits, names, strict=True), start=1):
        times = f"{clock(hit.start)} - {clock(hit.end)}"
        lines.append(f"{rank:4d}  {hit.score:6.3f}  {name:{width}}  {times}")
    return "\n".join(lines)


def clock(seconds: float) -> str:
    """Seconds as ``m:ss.s`` or ``h:mm:ss.s``."""
    tenths = round(10 * seconds)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    start = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{start}:{rest // 10:02d}.{rest % 10}"


def main(argv: list[str] | None = None) -> int:
    """Entry point: parses the flags before TensorFlow is imported; returns the exit code."""
    args = vars(build_parser().parse_args(argv))
    cli.before_tensorflow()
    page = args.pop("html")

    def command() -> int:
        if page:
            check_replaceable(page, "--html")
        found = search(**args)
        print(format_found(found))
        if page:
            from vatt_tf.search_index.report import write_page

            write_page(pathlib.Path(page), found)
            print(f"\nwritten: {page}")
        return 0

    return cli.run(command)


if __name__ == "__main__":
    sys.exit(main())
