"""What the video track and the audio track of a media file share: each is decoded once, in order.

Every time is in seconds after the start of the container (``pts * time_base - start_time``), so
that both tracks of a file share one axis. Damaged packets are skipped and counted, as a player
does; what was lost can be read from the track afterwards. No TensorFlow here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import av
import av.filter

from vatt_tf.errors import UserError

# Frames missing after a decoding error for longer than this are a hole, not a hiccup.
HOLE_SECONDS = 0.5


class MediaError(UserError):
    """A media file that cannot be used; the message is the reason."""


class SoundOnlyError(MediaError):
    """A file with sound where frames are wanted."""


def reason_of(error: BaseException) -> str:
    """The words of a FFmpeg error without its errno and file name."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def open_container(path: str | os.PathLike) -> Any:
    """Opens a local media file.

    Raises:
        MediaError: No such file, an empty file, or a file FFmpeg does not recognise.
    """
    name = os.path.abspath(os.fspath(path))
    try:
        size = os.stat(name).st_size
    except OSError as error:
        raise MediaError(f"{path}: cannot be opened: {error.strerror}") from error
    if os.path.isdir(name):
        raise MediaError(f"{path}: is a folder, a media file was expected")
    if size == 0:
        raise MediaError(f"{path}: the file is empty (0 bytes)")
    # "file:" keeps names such as "talk:part1.mp4" from being taken for a network protocol; the
    # whitelist keeps a play list disguised as a video from fetching anything.
    options = {"protocol_whitelist": "file"}
    try:
        return av.open("file:" + name, options=options, metadata_errors="replace")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        detail = "; ".join([reason_of(error), *_complaints(name, options)])
        raise MediaError(f"{path}: not a readable media file: {detail}") from error


def _complaints(name: str, options: dict[str, str]) -> list[str]:
    """What FFmpeg logs while it fails to open a file (its log is off otherwise)."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture():  # keeps the log off the screen
            av.open("file:" + name, options=options, metadata_errors="replace").close()
    except av.error.FFmpegError as error:
        log: Any = error.log  # (level, component, message)
        return [log[2].strip()] if log else []
    except (OSError, ValueError):
        pass
    finally:
        av.logging.set_level(level)
    return []


def pick_stream(container: Any, kind: str) -> Any | None:
    """The stream a player would show ("video") or play ("audio"), or None.

    A cover picture does not count as video.
    """
    stream = container.streams.best(kind)
    if stream is None or stream.codec_context is None:
        return None
    if kind == "video" and stream.disposition & av.stream.Disposition.attached_pic:
        return None
    # Several files are decoded side by side, so threads inside one file would only fight.
    stream.codec_context.thread_count = 1
    return stream


def start_of(container: Any) -> float:
    """Container time in seconds that is time 0 of the clip axis."""
    return (container.start_time or 0) / av.time_base


class Track:
    """What both kinds of track share: opening, seeking and damaged packets."""

    kind = ""

    def __init__(self, path: str | os.PathLike, start: float = 0.0):
        self.path = path
        self.damaged_packets = 0
        self.first_error = ""  # FFmpeg's words for the first damaged packet
        self.broken = ""  # why reading stopped before the end of the file, or ""
        self.container = open_container(path)
        self.stream: Any = pick_stream(self.container, self.kind)
        self.origin = start_of(self.container)
        if self.stream is not None and start > 0.0:
            self._seek(start)

    def _seek(self, start: float) -> None:
        # One second of margin: leading frames of an open group of pictures and the first
        # packets after a seek may be incomplete.
        target = max(0.0, start - 1.0) + self.origin
        try:
            offset = int(target / self.stream.time_base)
            self.container.seek(offset, stream=self.stream, backward=True, any_frame=False)
        except (av.error.FFmpegError, OSError):
            self.container.close()
            self.container = open_container(self.path)
            self.stream = pick_stream(self.container, self.kind)

    @property
    def length(self) -> float:
        """Seconds of the track that the header announces, 0.0 when it does not."""
        if self.stream.duration:
            return float(self.stream.duration * self.stream.time_base)
        return (self.container.duration or 0) / av.time_base

    def problem(self, duration: float, lost: bool) -> str:
        """Why the track gave less than its header announces; "" where it did not.

        Args:
            duration: Seconds that were read.
            lost: Whether what is missing is more than rounding.
        """
        why = self.broken or self.first_error
        if self.broken or (lost and why):
            return f"breaks at {duration:.2f} s of {self.length:.2f} s: {why}"
        if lost:
            return (
                f"ends at {duration:.2f} s although its header says {self.length:.2f} s "
                "(cut off or damaged)"
            )
        return ""

    def close(self) -> None:
        """Closes the file."""
        self.container.close()

    def _decoded(self) -> Iterator[Any]:
        """Every frame that can be decoded; damaged packets are skipped and counted."""
        packets = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (av.error.FFmpegError, OSError) as error:
                self.broken = reason_of(error)
                try:
                    yield from self.stream.codec_context.decode(None)
                except (av.error.FFmpegError, OSError):
                    pass
                return
            try:
                frames = packet.decode()
            except av.error.EOFError:
                continue
            except (av.error.FFmpegError, OSError, ValueError) as error:
                self.damaged_packets += 1
                self.first_error = self.first_error or reason_of(error)
                continue
            yield from frames

    def _time(self, frame: Any) -> float | None:
        stamp = frame.pts if frame.pts is not None else frame.dts
        if stamp is None or frame.time_base is None:
            return None
        return float(stamp * frame.time_base) - self.origin
