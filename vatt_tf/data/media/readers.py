"""Readers of images and of sound alone, with the interface of ``media.ClipReader``.

An image is a clip of one frame; a sound file gives clips without frames. No TensorFlow here.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from vatt_tf.data.media.spans import Grid, MediaClip, longest_piece
from vatt_tf.data.media.tracks.audio import AudioTrack
from vatt_tf.data.media.tracks.container import MediaError, check_reachable, check_regular
from vatt_tf.data.media.tracks.track import HOLE_SECONDS
from vatt_tf.data.media.tracks.video import scaled_size
from vatt_tf.wording import count_of

# A worker holds a picture several times while it makes it RGB.
MOST_IMAGE_PIXELS = 100_000_000
# More are scaled down before anything else is done to them.
_WHOLE_PIXELS = 16_000_000
# Containers whose headers do not give the length: FFmpeg estimates it from the bit rate.
_ESTIMATED = {"mp3", "aac", "mpeg", "mpegts"}
Spans = Iterable[tuple[float, float | None]]


def read_image(path: str | os.PathLike, short_side: int | None = None) -> np.ndarray:
    """Reads an image as a person sees it: turned by its EXIF tag, transparent parts white.

    Args:
        path: Any kind that Pillow reads; of an animation the first frame.
        short_side: Scaled down to this many pixels on the short side, never up.

    Returns:
        uint8 [H, W, 3].

    Raises:
        UnreachableError: The operating system does not give the file.
        MediaError: The file is no image, is cut short, or has more than ``MOST_IMAGE_PIXELS``.
    """
    from PIL import Image, ImageOps

    check_regular(path)
    try:
        with warnings.catch_warnings():
            # A huge image is an error below; a large one or an odd tag needs no words.
            warnings.simplefilter("ignore")
            with Image.open(path) as opened:
                if math.prod(opened.size) > MOST_IMAGE_PIXELS:
                    raise MediaError(
                        f"{path}: the image is too large: {opened.width} x {opened.height} pixels, "
                        f"at most {MOST_IMAGE_PIXELS / 1e6:.0f} million expected; make it smaller"
                    )
                image: Image.Image = _smaller(opened, short_side)
                image = _to_rgb(ImageOps.exif_transpose(image))
    except MediaError:
        raise
    except Image.DecompressionBombError as error:
        raise MediaError(f"{path}: the image is too large: {error}") from error
    except Exception as error:  # Pillow's decoders raise SyntaxError, struct.error, ... too
        check_reachable(path)
        raise MediaError(f"{path}: not a readable image: {error}") from error
    size = scaled_size(*image.size, short_side)
    if size != image.size:
        image = image.resize(size, Image.Resampling.BICUBIC)
    return np.asarray(image)


def _smaller(image: Any, short_side: int | None) -> Any:
    """A huge image at a whole fraction of its size, still at least twice as large as wanted."""
    if not short_side or math.prod(image.size) <= _WHOLE_PIXELS:
        return image
    image.draft(None, (2 * short_side, 2 * short_side))  # JPEG is decoded small
    factor = min(image.size) // (2 * short_side)
    return image.reduce(factor) if factor > 1 and image.mode not in ("P", "PA") else image


def _to_rgb(image: Any) -> Any:
    from PIL import Image

    if image.mode.startswith("I") or image.mode == "F":  # 16 bits or more: the usual range
        values = np.nan_to_num(np.array(image, np.float32), copy=False)
        top = 255.0 if values.max(initial=0) <= 255 else max(65535.0, float(values.max()))
        values *= 255.0 / top
        values += 0.5
        levels = np.clip(values, 0, 255, out=values)
        return Image.fromarray(levels.astype(np.uint8)).convert("RGB")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


class _Reader:
    """What the readers share: the attributes that ``media.ClipReader`` has."""

    def __init__(self, path: str | os.PathLike):
        self.path = path
        self.length = 0.0
        self.duration = 0.0
        self.at_end = False
        self.problem = ""
        self.warnings: list[str] = []

    @property
    def progress(self) -> Any:
        """Something that changes with each packet that is read."""
        return None

    def close(self) -> None:
        """Closes the file."""


class ImageReader(_Reader):
    """An image as a clip of one frame that lasts one frame time.

    Args:
        path: Image file.
        frame_rate: Frames per second that the record will say.
        short_side: Largest short side in pixels.
        transform: Applied to the frame (uint8 [H, W, 3]), e.g. a JPEG encoder.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        *,
        frame_rate: float,
        short_side: int,
        transform: Callable[[np.ndarray], Any],
    ):
        super().__init__(path)
        self.length = 1.0 / frame_rate
        self._short_side, self._transform = short_side, transform

    def clips(self, spans: Spans) -> Iterator[MediaClip]:
        """Yields the image once, whatever the spans are.

        Raises:
            MediaError: The image cannot be read.
        """
        frame = self._transform(read_image(self.path, self._short_side))
        self.duration, self.at_end = self.length, True
        yield MediaClip([frame], None, 0.0, self.length)


class AudioReader(_Reader):
    """Cuts the sound of a file into clips without frames, in one pass, one clip in memory.

    Args:
        path: Audio file, or a video of which only the sound is wanted.
        sample_rate: Samples per second of the clips.

    Raises:
        MediaError: The file cannot be opened or has no sound.
    """

    def __init__(self, path: str | os.PathLike, *, sample_rate: int):
        super().__init__(path)
        self.sample_rate = sample_rate
        self._track = AudioTrack(path, 0.0, sample_rate)
        if self._track.stream is None:
            kind = self._track.container.format.name
            self.close()
            raise MediaError(f"{path}: no audio stream (container {kind})")
        self.length = self._track.length

    @property
    def progress(self) -> Any:
        """Something that changes with each packet that is read."""
        return self._track.packets

    def close(self) -> None:
        """Closes the file."""
        self._track.close()

    def clips(self, spans: Spans) -> Iterator[MediaClip]:
        """Yields a clip for each span that begins before the end of the sound.

        Args:
            spans: (start, end) in seconds by increasing start; the iterable may be endless.
                They are cut where the clock of the file jumps, as by `ClipReader`.

        Raises:
            MediaError: No sound could be decoded.
        """
        rate, track, silent = self.sample_rate, self._track, 0
        for index, (start, end) in enumerate(spans):
            first = round(start * rate)
            wanted = None if end is None else max(1, round(end * rate) - first)
            count = track.available(first, wanted)
            self.duration = track.end / rate
            if not count:
                break
            piece = whole = (start, start + count / rate)
            if end is not None and track.clock.timeline is not None:
                jumps = track.clock.timeline.seams
                if isinstance(spans, Grid):
                    piece = spans.until_jump(whole, jumps)
                else:
                    piece = longest_piece(*whole, jumps)
                first, count = round(piece[0] * rate), round((piece[1] - piece[0]) * rate)
            waveform = track.read(first, count)
            if waveform is None:  # a gap between two pieces of sound
                silent += 1
                continue
            missing = 0.0 if end is None else max(0, round((end - piece[1]) * rate)) / rate
            yield MediaClip([], waveform, *piece, index, missing, cut=piece != whole)
        self.at_end = track.ended
        if self.at_end and not track.heard:
            why = track.broken or track.first_error
            raise MediaError(f"{self.path}: no sound that decodes{': ' + why if why else ''}")
        if silent:
            note = f"{count_of(silent, 'clip')} left out: the file has no sound there"
            self.warnings.append(note)
        self._say_what_is_lost()

    def _say_what_is_lost(self) -> None:
        track, announced = self._track, self.length
        estimated = track.container.format.name in _ESTIMATED
        lost = self.at_end and not estimated and announced - self.duration > HOLE_SECONDS
        self.problem = track.problem(self.duration, lost)
        if not self.problem and track.damaged_packets:
            why = track.first_error
            self.warnings.append(f"{track.damaged_packets} damaged audio packets ({why})")
        if track.clock.timeline is not None:
            self.warnings += track.clock.timeline.notes
