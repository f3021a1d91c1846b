"""First hour of a new user: times ``make quickstart`` on six folders and searches the indexes.

    python tools/first_hour.py --data=../shared/data
    python tools/first_hour.py --data=../shared/data --sets=a,d --steps=5 --size=0.3

Makes each folder of videos below ``--out``, runs the quickstart on it from the checkout, and checks
that it ends with a report and a working search. Then it searches the index:

* by example: pieces are cut out of the indexed videos one second after a clip begins, encoded anew
  at half the size, and have to find their video first;
* by words: every clip whose caption holds all words of a query has to come before any other.

The table also gives what the embeddings alone reach for the same words: the fraction of the places
of the clips that hold all words which their cosine gives to such clips, and what chance gives them.
Needs a quiet machine and the real data for tests. See docs/measurements/first_hour.md.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import json
import pathlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import numpy as np
from first_hour_sets import SETS

from vatt_tf.atomic import write_text

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "measurements" / "first_hour.md"
QUERIES = 40
SHIFT = 1.0  # seconds between the start of a clip of the index and that of a piece
LEAST_SECONDS = 1.0  # of a piece
COLUMNS = "set,videos,minutes,report,search,by example,words,embeddings alone".split(",")


@dataclasses.dataclass(frozen=True)
class Row:
    """Row of the table; the fields are its columns."""

    name: str
    videos: int
    minutes: float
    report: bool
    search: bool
    by_example: str = "-"
    words: str = "-"
    embeddings: str = "-"

    def cells(self) -> list[str]:
        """The columns as text."""
        done = {True: "yes", False: "NO"}
        return [
            self.name,
            str(self.videos),
            f"{self.minutes:.1f}",
            done[self.report],
            done[self.search],
            self.by_example,
            self.words,
            self.embeddings,
        ]


def run_quickstart(
    videos: pathlib.Path, run: pathlib.Path, log: pathlib.Path, variables: Sequence[str] = ()
) -> float:
    """Runs ``make quickstart`` in the checkout; returns the minutes.

    Args:
        videos: Folder of videos.
        run: Run directory to make.
        log: File of the output.
        variables: Of the Makefile, ``NAME=value``.
    """
    places = [f"VIDEOS={videos}", f"DATA={run}_data", f"RUN={run}"]
    command = ["make", "quickstart", *places, *variables]
    print(" ".join(command), flush=True)
    began = time.monotonic()
    with open(log, "w", encoding="utf-8") as file:
        ended = subprocess.run(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)
    minutes = (time.monotonic() - began) / 60
    if ended.returncode:
        last = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:])
        print(f"ended with {ended.returncode}; all of it is in {log}\n{last}", flush=True)
    return minutes


@contextlib.contextmanager
def model_kept() -> Iterator[None]:
    """Makes searches in this process share model and index, which each would load anew."""
    from vatt_tf.search_index import folder, models

    with (
        mock.patch.object(models, "open_model", functools.cache(models.open_model)),
        mock.patch.object(folder, "open_index", functools.cache(folder.open_index)),
    ):
        yield


def search_answers(index: pathlib.Path, run: pathlib.Path, scratch: pathlib.Path) -> bool:
    """Whether the search that the quickstart names prints hits for a piece of a video."""
    from vatt_tf import search
    from vatt_tf.search_index.folder import open_index

    for file, start, end in pieces(index, 1):
        videos = pathlib.Path(open_index(index).manifest["settings"]["videos"])
        example = scratch / "example.mp4"
        cut_piece(videos / file, start, end, example)
        flags = [f"--index={index}", f"--run_dir={run}", f"--video={example}", "--json"]
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            code = search.main(flags)
        return code == 0 and bool(json.loads(printed.getvalue())["hits"])
    return False


def pieces(index: pathlib.Path, count: int = QUERIES) -> list[tuple[str, float, float]]:
    """Parts of the indexed videos, in turn: file, start and end in seconds.

    A piece is as long as a clip of the index where the video is, begins ``SHIFT`` after a clip does
    and lies in the video. Videos that are too short for one give none.
    """
    from vatt_tf.search_index.folder import open_index

    opened = open_index(index)
    settings = opened.manifest["settings"]
    length, stride = settings["clip_seconds"], settings["stride_seconds"]
    of_video = []
    for entry in opened.entries.values():
        end = max((end for _, end in entry.times), default=0.0)
        starts = np.arange(SHIFT, end - min(length, LEAST_SECONDS) + 1e-6, stride)
        whole = [s for s in starts.tolist() if s + length <= end] or starts[:1].tolist()
        of_video.append([(entry.file, s, min(s + length, end)) for s in whole])
    random = np.random.default_rng(0)
    for found in of_video:
        random.shuffle(found)
    random.shuffle(of_video)
    turns = max(map(len, of_video), default=0)
    chosen = [found[turn] for turn in range(turns) for found in of_video if turn < len(found)]
    return chosen[:count]


def cut_piece(video: pathlib.Path, start: float, end: float, path: pathlib.Path) -> None:
    """Encodes a part of a video anew, at half its size."""
    from vatt_tf.data import media
    from vatt_tf.data.prepare.sample_videos import SAMPLE_RATE, write_video

    facts = media.probe(video)
    rate = max(1, min(30, round(facts.frame_rate)))
    side = max(2, min(facts.width, facts.height) // 2)
    clip = media.read_clip(
        video, start, end, frame_rate=rate, short_side=side, sample_rate=SAMPLE_RATE
    )
    height, width = (max(2, size // 2 * 2) for size in clip.frames.shape[1:3])
    # A side of one pixel, which no encoder takes, is repeated.
    frames = np.take(clip.frames, np.arange(height) % clip.frames.shape[1], axis=1)
    frames = np.take(frames, np.arange(width) % clip.frames.shape[2], axis=2)
    write_video(path, frames, clip.waveform, frame_rate=rate)


def by_example(index: pathlib.Path, run: pathlib.Path, scratch: pathlib.Path) -> tuple[int, int]:
    """Number of pieces that find their video first, and of all pieces."""
    from vatt_tf.search import search
    from vatt_tf.search_index.folder import open_index

    videos = pathlib.Path(open_index(index).manifest["settings"]["videos"])
    right, wanted = 0, pieces(index)
    for number, (file, start, end) in enumerate(wanted):
        query = scratch / f"{number:02d}.mp4"
        cut_piece(videos / file, start, end, query)
        hits = search(index, video=query, run_dir=str(run), top=3).hits
        right += bool(hits) and hits[0].file == file
        if not hits or hits[0].file != file:
            print(f"  {file} {start:.1f}-{end:.1f} s: found {[hit.file for hit in hits]}")
    return right, len(wanted)


def by_words(
    index: pathlib.Path, run: pathlib.Path, captions: dict[str, str], queries: Sequence[str]
) -> int:
    """Number of queries whose clips all come before any other, and of all queries."""
    from vatt_tf.search import search

    right = 0
    for query in queries:
        expected = holding(captions, query)
        hits = search(index, query, run_dir=str(run), top=len(expected), per_video=1).hits
        if {hit.file for hit in hits} == expected:
            right += 1
        else:
            print(f"  {query}: expected {sorted(expected)}, found {[hit.file for hit in hits]}")
    return right


def holding(captions: dict[str, str], query: str) -> set[str]:
    """Videos whose caption holds all words of the query."""
    words = query.split()
    return {
        file
        for file, caption in captions.items()
        if all(w in (caption.split() if w.isascii() else caption) for w in words)
    }


def by_embedding(
    index: pathlib.Path, run: pathlib.Path, captions: dict[str, str], queries: Sequence[str]
) -> tuple[float, float]:
    """Fraction of right clips among the first ones by cosine with the words, and chance."""
    from vatt_tf.search_index import models
    from vatt_tf.search_index.folder import open_index
    from vatt_tf.search_index.spaces import choose_space

    opened = open_index(index)
    clips = opened.clips()
    space = choose_space(opened, "text", True)
    model = models.open_model(models.Source("run_dir", str(run)))
    cosines = model.embedder.embed_text(list(queries), space=space) @ opened.vectors(space, clips).T
    files = np.array(clips.files)[clips.video]
    found, chance = [], []
    for query, row in zip(queries, cosines, strict=True):
        expected = holding(captions, query)
        # A video ranks by its best clip.
        best = list(dict.fromkeys(files[np.argsort(-row, kind="stable")].tolist()))
        found.append(len(expected & set(best[: len(expected)])) / len(expected))
        chance.append(len(expected) / len(best))
    return float(np.mean(found)), float(np.mean(chance))


def measure(
    letter: str, out: pathlib.Path, data: pathlib.Path, size: float, variables: Sequence[str]
) -> Row:
    """Makes the folder of a set, runs the quickstart on it, and searches its index."""
    chosen = SETS[letter]
    place = out / letter
    videos, run = place / "videos", place / "run"
    if place.exists() and not (place / "log.txt").exists():
        raise SystemExit(f"error: {place} is there and not of this tool; give another --out")
    shutil.rmtree(place, ignore_errors=True)
    videos.mkdir(parents=True)
    (place / "log.txt").touch()
    captions = chosen.build(data, videos, size)
    minutes = run_quickstart(videos, run, place / "log.txt", variables)
    return check(letter, run, minutes, captions)


def check(letter: str, run: pathlib.Path, minutes: float, captions: dict[str, str]) -> Row:
    """Searches the index that a quickstart has made.

    Args:
        letter: Of the set.
        run: The run directory, with the report and the index.
        minutes: Minutes of the quickstart.
        captions: Of each video, by file name.
    """
    chosen, index = SETS[letter], run / "index"
    report = (run / "report.html").is_file()
    name = f"{letter}: {chosen.name}"
    if not (index / "manifest.json").is_file():
        videos = run.parent / "videos"
        return Row(name, len(list(videos.iterdir())), minutes, report, False)
    from vatt_tf.search_index.folder import open_index

    scratch = run.parent / "queries"
    scratch.mkdir(exist_ok=True)
    answered = search_answers(index, run, scratch)
    row = Row(name, len(open_index(index).entries), minutes, report, answered)
    with model_kept():
        if chosen.by_example:
            right, count = by_example(index, run, scratch)
            row = dataclasses.replace(row, by_example=f"{right}/{count}")
        if queries := chosen.queries(captions):
            right = by_words(index, run, captions, queries)
            alone, chance = by_embedding(index, run, captions, queries)
            row = dataclasses.replace(
                row,
                words=f"{right}/{len(queries)}",
                embeddings=f"{100 * alone:.1f} % (chance {100 * chance:.1f} %)",
            )
    return row


def as_markdown(rows: Sequence[Row]) -> str:
    """Formats the table as Markdown."""
    lines = [COLUMNS, ["---"] * len(COLUMNS), *(row.cells() for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def as_text(rows: Sequence[Row]) -> str:
    """Formats the table for a terminal."""
    lines: list[Any] = [COLUMNS, *(row.cells() for row in rows)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def write_document(rows: Sequence[Row], path: pathlib.Path) -> None:
    """Replaces the table of a document."""
    text = path.read_text(encoding="utf-8")
    before, _, rest = text.partition("| set |")
    after = rest.partition("\n\n")[2]
    write_text(path, f"{before}{as_markdown(rows)}\n\n{after}")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    from vatt_tf import cli

    cli.before_tensorflow()
    parser = cli.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--data", type=pathlib.Path, default=ROOT.parent / "shared" / "data", help="real data")
    add("--out", type=pathlib.Path, default=ROOT / "runs" / "first_hour", help="scratch folder")
    add("--sets", default=",".join(SETS), help=f"of {','.join(SETS)} (default: all)")
    add("--size", type=float, default=1.0, help="of the folders; less than 1 to try it out")
    add("--steps", type=int, help="training steps, in place of the quickstart's")
    add("--write", action="store_true", help=f"put the table into {DOCUMENT.relative_to(ROOT)}")
    flags = parser.parse_args(argv)
    letters = flags.sets.split(",")
    if unknown := sorted(set(letters) - set(SETS)):
        parser.error(f"--sets: '{unknown[0]}' is none of {', '.join(SETS)}")
    if not 0 < flags.size <= 1:
        parser.error(f"--size={flags.size:g}: expected more than 0 and at most 1")
    if flags.write and (letters != list(SETS) or flags.size != 1 or flags.steps):
        parser.error("--write is for all sets as they are: leave --sets, --size and --steps out")
    variables = [] if flags.steps is None else [f"STEPS={flags.steps}"]
    rows = []
    for letter in letters:
        rows.append(measure(letter, flags.out.resolve(), flags.data, flags.size, variables))
        print(f"\n{as_text(rows)}\n", flush=True)
    if flags.write:
        write_document(rows, DOCUMENT)
        print(f"written: {DOCUMENT}")
    return 0 if all(row.report and row.search for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
