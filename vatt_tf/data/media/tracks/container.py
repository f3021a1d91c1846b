"""Opening media files: regular files, containers of media only; the streams that a player takes.

No TensorFlow here.
"""

from __future__ import annotations

import functools
import os
import stat
from collections.abc import Iterator, Sequence
from typing import Any

import av
import av.error
import av.logging
import av.stream

from vatt_tf.data.media.tracks.joined_flv import JoinedFile, inner_headers
from vatt_tf.errors import UserError

# What FFmpeg reads besides media: lists of other files, scripts, captions, text as pictures.
NO_CONTAINERS = frozenset(
    "concat hls dash imf webm_dash_manifest ffmetadata sdp rtp rtsp sap avisynth vapoursynth "
    "image2 image2pipe vobsub tty bin xbin adf idf ass aqtitle jacosub lrc microdvd mpl2 mpsub pjs "
    "realtext sami scc srt stl subviewer subviewer1 sup tedcaptions vplayer webvtt ttml mcc sbg "
    "lavfi data".split()
)
# What FFmpeg takes longer for, from one packet to the next, is given up.
ANSWER_SECONDS = 15.0
NO_ANSWER = f"no answer within {ANSWER_SECONDS:g} s"
# More than a picture of "8K" has (7680 x 4320): a header of a few bytes can announce any size.
MOST_PIXELS = 36_000_000


class MediaError(UserError):
    """A media file that cannot be used; the message is the reason."""


class SoundOnlyError(MediaError):
    """A file with sound where frames are wanted."""


class UnreachableError(MediaError):
    """A file that the operating system did not give: nothing is wrong with the file itself."""


def reason_of(error: BaseException) -> str:
    """The words of a FFmpeg error without its errno and file name."""
    if isinstance(error, IndexError):
        return "a track begins in the middle of the file"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def check_reachable(path: str | os.PathLike) -> None:
    """Reads the ends of a file.

    Raises:
        UnreachableError: The operating system refuses: no such file, no permission, a network disk
            that is away.
    """
    try:
        with open(path, "rb") as file:
            if file.read(1):
                file.seek(-1, os.SEEK_END)
                file.read(1)
    except OSError as error:
        raise UnreachableError(f"{path}: cannot be opened: {error.strerror}") from error


def check_regular(path: str | os.PathLike) -> None:
    """Looks at a file without opening it: a pipe would wait for ever, a device never ends.

    Raises:
        UnreachableError: The operating system does not give the file.
        MediaError: It is empty, or none at all.
    """
    try:
        facts = os.stat(path)
    except OSError as error:
        raise UnreachableError(f"{path}: cannot be opened: {error.strerror}") from error
    if not stat.S_ISREG(facts.st_mode):
        kind = "a folder" if stat.S_ISDIR(facts.st_mode) else "a pipe, a socket or a device"
        raise MediaError(f"{path}: is {kind}, a media file was expected")
    if facts.st_size == 0:
        raise MediaError(f"{path}: the file is empty (0 bytes)")


def open_container(path: str | os.PathLike) -> Any:
    """Opens a local media file.

    Raises:
        UnreachableError: The operating system does not give the file.
        MediaError: An empty file, none at all (a folder, a pipe, a device), a list of other files,
            or one that FFmpeg does not recognise.
    """
    name = os.path.abspath(os.fspath(path))
    check_regular(path)
    # "file:" keeps names such as "talk:part1.mp4" from being taken for a network protocol; the
    # lists of what is allowed keep a play list named like a video from opening anything.
    options = {"protocol_whitelist": "file", "format_whitelist": _containers()}
    try:
        inner = inner_headers(path)
        source = JoinedFile(path, inner) if inner else "file:" + name
        return av.open(source, options=options, metadata_errors="replace", timeout=ANSWER_SECONDS)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        check_reachable(path)
        if isinstance(error, av.error.ExitError):
            raise UnreachableError(f"{path}: {NO_ANSWER}") from error
        complaints = _complaints(name, options)
        if any("whitelist" in complaint for complaint in complaints):
            complaints = ["a list of other files, text or a script, not a container of media"]
        detail = "; ".join([reason_of(error), *complaints])
        raise MediaError(f"{path}: not a readable media file: {detail}") from error


@functools.cache
def _containers() -> str:
    return ",".join(sorted(av.formats_available - NO_CONTAINERS))


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

    A cover picture does not count as video. The sound is that of the picture's programme.
    """
    stream = _picture(container)
    if kind == "audio":
        stream = _best(container, "audio", stream)
    if stream is None or stream.codec_context is None:
        return None
    # Several files are decoded side by side, so threads inside one file would only fight.
    stream.codec_context.thread_count = 1
    if kind == "video":
        stream.codec_context.options = {"max_pixels": str(MOST_PIXELS)}
    return stream


def is_cover(stream: Any) -> bool:
    """Whether a video stream is a picture that is attached to the file."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _picture(container: Any) -> Any | None:
    best = _best(container, "video")
    if best is None or not is_cover(best):
        return best
    # FFmpeg's choice heeds the flag "default", which covers may have as well.
    videos = [stream for stream in container.streams.video if not is_cover(stream)]
    flagged = [s for s in videos if s.disposition & av.stream.Disposition.default]
    return next(iter(flagged or videos), None)


def _best(container: Any, kind: str, related: Any | None = None) -> Any | None:
    try:
        return container.streams.best(kind, related=related)
    except IndexError:  # a stream that came up after the file was opened
        return next(iter(getattr(container.streams, kind)), None)


def start_of(container: Any) -> float:
    """Container time in seconds that is time 0 of the clip axis."""
    return (container.start_time or 0) / av.time_base


def packets_of(container: Any, streams: Sequence[Any]) -> Iterator[Any]:
    """The packets of some streams in the order of the file, up to its end or where it breaks."""
    packets = container.demux(*streams)
    while True:
        try:
            packet = next(packets)
        except av.error.ExitError as error:
            name = container.name.removeprefix("file:")
            raise UnreachableError(f"{name}: {NO_ANSWER}") from error
        except (StopIteration, IndexError, av.error.FFmpegError, OSError):
            return
        if packet.size:
            yield packet
