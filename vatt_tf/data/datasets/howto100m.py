"""HowTo100M: instructional videos with the captions of a speech recogniser in one file."""

from __future__ import annotations

import codecs
import json
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from vatt_tf.data.datasets.originals import Definition, Originals
from vatt_tf.data.media.captions import Caption, clean
from vatt_tf.data.prepare.plan import PlanError
from vatt_tf.data.transcripts.store import Transcript
from vatt_tf.wording import count_of

_NAMES = ("caption.json", "raw_caption_superclean.json", "raw_caption.json")
_CHUNK_BYTES = 2**20
_LONGEST_ENTRY = 2**28  # characters


class CaptionFile:
    """Captions of a file ``{"id": {"start": [...], "end": [...], "text": [...]}}`` by video.

    A recogniser for ``transcripts``: it gives what the file has. Only the places of the videos are
    in memory.

    Args:
        path: The file.
        places: (offset, length) in bytes of each video's captions, by the name of its file
            without folder and ending.

    Attributes:
        name: Name of the file.
    """

    def __init__(self, path: pathlib.Path, places: dict[str, tuple[int, int]]) -> None:
        self._path, self._places = path, places
        self.name = path.name

    def __call__(self, path: str) -> Transcript:
        """Reads the captions of a video."""
        video = os.path.splitext(os.path.basename(path))[0]
        offset, length = self._places[video]
        with open(self._path, "rb") as file:
            file.seek(offset)
            entry = json.loads(file.read(length))
        try:
            columns = [entry[name] for name in ("start", "end", "text")]
            captions = [
                Caption(float(start), float(end), clean(text), "en")
                for start, end, text in zip(*columns, strict=True)
                if isinstance(text, str) and clean(text)
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{self.name}: the captions of {video} are not 'start', 'end' and 'text' of equal "
                "length"
            ) from error
        return Transcript(captions=captions, language="en", note="" if captions else "no caption")


def entries(path: pathlib.Path) -> Iterator[tuple[str, Any, int, int]]:
    """Yields (key, value, offset and length of the value in bytes) of a large JSON object.

    One entry is in memory at a time, whatever the size of the file.

    Raises:
        PlanError: It cannot be read or is no JSON object.
    """
    decoder = json.JSONDecoder()
    try:
        with open(path, "rb") as file:
            text = _Text(file)
            text.expect("{")
            if text.peek() == "}":
                return
            while True:
                key, _, _ = text.value(decoder)
                if not isinstance(key, str):
                    raise ValueError("a key is no string")
                text.expect(":")
                value, offset, length = text.value(decoder)
                yield key, value, offset, length
                if text.peek() == "}":
                    return
                text.expect(",")
    except OSError as error:
        raise PlanError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise PlanError(f"{path}: not a JSON object of videos: {error}") from error


class _Text:
    """A window on the text of a file that grows until a value fits."""

    def __init__(self, file: Any) -> None:
        self._file, self._decode = file, codecs.getincrementaldecoder("utf-8")().decode
        self._text, self._at = "", 0
        self._bytes = 0  # of the file, before the place in the window

    def _more(self) -> bool:
        rest = self._text[self._at :]
        if len(rest) > _LONGEST_ENTRY:  # a quote is missing: not the whole file into memory
            raise ValueError(f"an entry at byte {self._bytes} does not end")
        data = self._file.read(max(_CHUNK_BYTES, len(rest)))
        self._text, self._at = rest + self._decode(data, not data), 0
        return bool(data)

    def peek(self) -> str:
        """The next character that is no blank."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in " \t\r\n":
                    return self._text[self._at]
                self._at += 1
                self._bytes += 1
            if not self._more():
                raise ValueError("it ends too early")

    def expect(self, mark: str) -> None:
        """Passes a character."""
        if self.peek() != mark:
            raise ValueError(f"{self.peek()!r} at byte {self._bytes}, where {mark!r} was expected")
        self._at += 1
        self._bytes += 1

    def value(self, decoder: json.JSONDecoder) -> tuple[Any, int, int]:
        """The next value, its offset and its length in bytes."""
        self.peek()
        while True:
            try:
                value, end = decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if not self._more():
                    raise ValueError(f"{error.msg} in the entry at byte {self._bytes}") from error
                continue
            offset, length = self._bytes, len(self._text[self._at : end].encode())
            self._at, self._bytes = end, offset + length
            return value, offset, length


def _read(originals: Originals) -> Sequence[str]:
    path = originals.official(
        _NAMES, "the captions of every video: {id: {start: [...], end: [...], text: [...]}}"
    )
    places: dict[str, tuple[int, int]] = {}
    missing = 0
    for video, entry, offset, length in entries(path):
        file = originals.find(video)
        if file is None:
            missing += 1
        elif not isinstance(entry, dict) or not {"start", "end", "text"} <= set(entry):
            reason = f"{path.name}: its entry has no 'start', 'end' and 'text'"
            originals.rows.quarantine.append({"file": file, "reason": reason})
        else:
            places[video] = offset, length
            originals.add(file, "train")
    if missing:
        # Nobody has all of a million videos: one line in place of a million.
        note = (
            f"{count_of(missing, 'video')} of {path.name} without a file below {originals.videos}"
        )
        originals.rows.warnings.append({"file": path.name, "warning": note})
    originals.captions = CaptionFile(path, places)
    return ()


HOWTO100M = Definition(
    name="howto100m",
    media="video",
    settings={"frame_rate": 10.0, "short_side": 256, "cut": "captions", "clip_seconds": 5.0},
    read=_read,
    needs=(
        "{youtube_id}.mp4 (any ending); caption.json or raw_caption_superclean.json; the word list "
        "is for training: train.tokenizer_file"
    ),
    protocol="everything is train: contrastive pre-training on clips around the captions",
)
