"""Text of each clip: captions beside the videos, transcripts beside shards, file names."""

from __future__ import annotations

import bisect
import os
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from vatt_tf import paths
from vatt_tf.data.media.captions import Caption, Timeline, pick_caption_file, read_captions
from vatt_tf.data.media.scan import scan
from vatt_tf.data.prepare.folder import TRANSCRIPTS
from vatt_tf.data.transcripts.store import name_in_folder, read_transcript
from vatt_tf.errors import UserError
from vatt_tf.search_index.text.words import fold

# Most characters indexed per clip. A transcript without times belongs to every clip: without a
# limit the index would grow with clips x length of the transcript.
CHARACTERS = 20_000
# Version of the rules by which clips get words; a change makes all videos be indexed again.
RULES = 3


class Sidecars:
    """Caption files of the videos of a folder, by the rules of ``prepare``, or transcripts.

    Args:
        root: Folder of the videos.
        leave_out: Folders in it that are not searched.
        transcripts: Folder of the transcripts that ``prepare --transcribe`` keeps, or None.
    """

    def __init__(
        self,
        root: str | os.PathLike,
        leave_out: Sequence[str | os.PathLike] = (),
        transcripts: str | os.PathLike | None = None,
    ):
        self.root = pathlib.Path(root)
        self.transcripts = None if transcripts is None else pathlib.Path(transcripts)
        _, self._names = scan(self.root, (), [], leave_out)

    def find(self, file: str) -> tuple[str | None, list[str]]:
        """Finds the caption file of a video, or its transcript.

        Returns:
            Its path, relative to the folder; and a note where there are only files of a kind that
            is not read.
        """
        stem = os.path.splitext(file)[0]
        folder, base = os.path.split(stem)
        names = [os.path.basename(name) for name in self._names.get(stem, ())]
        chosen, notes = pick_caption_file(base, names)
        if chosen is not None:
            return os.path.join(folder, chosen), []
        transcript = self.transcript(file)
        return (None, notes) if transcript is None else (os.fspath(transcript), [])

    def transcript(self, file: str) -> pathlib.Path | None:
        """Path of the transcript of a video; None where there is none."""
        if self.transcripts is None:
            return None
        path = self.transcripts / name_in_folder(file)
        return path if path.is_file() else None

    def read(self, path: str, size: int) -> tuple[list[Caption], list[str]]:
        """Reads the file that :meth:`find` returned for a video of that many bytes.

        Returns:
            The captions, and a note for each thing that was mended or left out.

        Raises:
            UserError: It cannot be read.
        """
        if self.transcripts is not None and self.transcripts in pathlib.Path(path).parents:
            return read_transcript(path, size), []
        return read_captions(self.root / path)

    def remember(self, manifest: dict[str, Any], say: Callable[[str], None]) -> None:
        """Reads the folder of transcripts from the manifest of an index, or stores it there."""
        if self.transcripts is not None:
            manifest["transcripts"] = os.fspath(self.transcripts)
        elif known := manifest.get("transcripts"):
            self.transcripts = pathlib.Path(known)
            if not self.transcripts.is_dir():
                say(
                    f"{known}: the transcripts of this index are gone, and so are their words from "
                    "it; --transcripts=DIR names their new folder"
                )

    def check_transcripts(self, files: Iterable[str]) -> None:
        """Checks that a folder of transcripts has some of these videos.

        Raises:
            UserError: There is no such folder, or no transcript of a video in it.
        """
        if self.transcripts is None:
            return
        if not self.transcripts.is_dir():
            raise UserError(f"--transcripts={self.transcripts}: no such folder")
        if not any(self.transcript(file) for file in files):
            inside = self.transcripts / TRANSCRIPTS
            hint = (
                f"; did you mean --transcripts={inside}?"
                if inside.is_dir()
                else f". Expected <name of the video in {self.root}>.json, as prepare --transcribe "
                "keeps them in OUT/transcripts for the same --videos"
            )
            raise UserError(f"--transcripts={self.transcripts}: no transcript of a video{hint}")


def name_words(file: str) -> str:
    """Folded words of a path without its extension."""
    return fold(paths.shown(os.path.splitext(file)[0]))


def clip_texts(captions: Sequence[Caption], times: Sequence[tuple[float, float]]) -> list[str]:
    """Returns for each clip the folded text of the captions that overlap it, cut to ``CHARACTERS``.

    A caption that overlaps no clip (what is left over at the end of a video, a gap between strides)
    belongs to the nearest one.

    Args:
        captions: Captions in any order. One without times belongs to every clip.
        times: Start and end of each clip in seconds, by their starts.
    """
    timeline = Timeline(captions)
    timed, whole = timeline.timed, [fold(caption.text) for caption in timeline.whole]
    folded = [fold(caption.text) for caption in timed]
    inside = [timeline.overlapping(start, end) for start, end in times]
    nearest = _nearest_clip(times)
    for k in set(range(len(timed))).difference(*inside):
        inside[nearest(timed[k])].append(k)
    return [
        _cut(" ".join(text for text in [*(folded[k] for k in sorted(ks)), *whole] if text))
        for ks in inside
    ]


def _nearest_clip(times: Sequence[tuple[float, float]]) -> Callable[[Caption], int]:
    """Index of the clip nearest to a caption that overlaps none."""
    starts, ends = [start for start, _ in times], [end for _, end in times]
    # Of each clip and those before it, the one that ends last.
    last: list[int] = []
    for k, end in enumerate(ends):
        last.append(last[-1] if last and end <= ends[last[-1]] else k)

    def nearest(caption: Caption) -> int:
        after = bisect.bisect_left(starts, caption.end)
        if after == 0:
            return 0
        before = last[after - 1]
        if after == len(times):
            return before
        return before if caption.start - ends[before] <= starts[after] - caption.end else after

    return nearest


def _cut(text: str) -> str:
    """Cuts a text to ``CHARACTERS`` at the end of a word."""
    return text if len(text) <= CHARACTERS else text[:CHARACTERS].rpartition(" ")[0]
