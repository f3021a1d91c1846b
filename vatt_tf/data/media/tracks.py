"""One video track and one audio track of a media file, each decoded once in time order.

Every time is in seconds after the start of the container (``pts * time_base - start_time``), so
that both tracks of a file share one axis. Damaged packets are skipped and counted, as a player
does; what was lost can be read from the track afterwards. No TensorFlow here.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import av
import av.filter
import numpy as np
from av.video.reformatter import VideoReformatter

from vatt_tf.errors import UserError

# Containers time-stamp audio packets to the millisecond or so; a jump beyond this is a real gap.
AUDIO_JITTER_SECONDS = 0.010
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


class _Track:
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


class TimedFrame:
    """A decoded frame, converted to RGB only when it is first kept."""

    __slots__ = ("time", "duration", "_frame", "_convert", "_value")

    def __init__(self, time: float, duration: float, frame: Any, convert: Callable[[Any], Any]):
        self.time = time
        self.duration = duration
        self._frame = frame
        self._convert = convert
        self._value = None

    @property
    def value(self) -> Any:
        """The converted frame; the conversion runs once."""
        if self._frame is not None:
            self._value = self._convert(self._frame)
            self._frame = None
        return self._value


class VideoTrack(_Track):
    """The frames of a file's video stream.

    Args:
        path: Media file.
        start: Seconds; frames before it need not be delivered (a seek is tried).
        short_side: Frames are scaled down to this many pixels on the short side, never up.
        transform: Applied to each kept frame (uint8 [H, W, 3], upright); None keeps the array.

    Raises:
        MediaError: The file cannot be opened or holds no video stream.
    """

    kind = "video"

    def __init__(
        self,
        path: str | os.PathLike,
        start: float = 0.0,
        short_side: int | None = None,
        transform: Callable[[np.ndarray], Any] | None = None,
    ):
        super().__init__(path, start)
        if self.stream is None:
            has_picture = bool(self.container.streams.video)
            has_audio = bool(self.container.streams.audio)
            kind = self.container.format.name
            self.close()
            what = "only a cover picture" if has_picture else "no video stream"
            what += ", audio only" if has_audio else ""
            error = SoundOnlyError if has_audio else MediaError
            raise error(f"{path}: {what} (container {kind})")
        self.short_side = short_side
        self.transform = transform
        # One for all frames: making it costs more than using it.
        self._reformatter = VideoReformatter()
        self._turner: tuple[tuple, av.filter.Graph] | None = None
        self.corrupt_frames = 0
        self.late_frames = 0  # frames whose time does not come after the one before
        self.size: tuple[int, int] | None = None  # width, height that frames are scaled to
        rate = self.stream.average_rate or self.stream.guessed_rate
        self.frame_seconds = float(1 / rate) if rate else 0.0

    def frames(self) -> Iterator[TimedFrame]:
        """Yields frames of strictly increasing time."""
        last = -math.inf
        for frame in self._decoded():
            time = self._time(frame)
            if time is None:
                time = 0.0 if last == -math.inf else last + (self.frame_seconds or 0.04)
            if time <= last:
                self.late_frames += 1
                continue
            last = time
            if frame.is_corrupt:
                self.corrupt_frames += 1
            duration = float(frame.duration * frame.time_base) if frame.duration else 0.0
            yield TimedFrame(time, duration or self.frame_seconds, frame, self._convert)

    def _convert(self, frame: Any) -> Any:
        if self.size is None:
            width, height = display_size(frame.width, frame.height, self.stream)
            self.size = scaled_size(width, height, self.short_side)
        width, height = self.size
        turns = round(frame.rotation / 90) % 4
        if turns:
            frame = self._turn(frame, turns)
        if turns % 2:
            width, height = height, width
        # swscale goes from the stored pixels to the target size in one pass.
        scaled = self._reformatter.reformat(frame, width, height, format="rgb24")
        image: np.ndarray = scaled.to_ndarray()
        return image if self.transform is None else self.transform(image)

    def _turn(self, frame: Any, turns: int) -> Any:
        """Turns stored pixels counter-clockwise by quarters.

        swscale interpolates colours less finely in a row than in a column: pixels that lie on their
        side would come out otherwise than the same picture stored upright.
        """
        kind = (turns, frame.width, frame.height, frame.format.name)
        if self._turner is None or self._turner[0] != kind:
            self._turner = kind, _turning_graph(frame, turns)
        graph = self._turner[1]
        graph.push(frame)
        return graph.pull()


def _turning_graph(frame: Any, turns: int) -> av.filter.Graph:
    """A filter for frames of this size and format."""
    graph = av.filter.Graph()
    names = {1: ["transpose=cclock"], 2: ["hflip", "vflip"], 3: ["transpose=clock"]}[turns]
    chain = [
        graph.add_buffer(
            width=frame.width,
            height=frame.height,
            format=frame.format,
            time_base=frame.time_base or Fraction(1, 1000),
        )
    ]
    chain += [graph.add(*name.split("=")) for name in [*names, "buffersink"]]
    graph.link_nodes(*chain).configure()
    return graph


def display_size(width: int, height: int, stream: Any) -> tuple[int, int]:
    """Width and height with square pixels, as a player shows the frame (before rotation)."""
    aspect = stream.sample_aspect_ratio
    if aspect and aspect != 1 and 0.25 < aspect < 4:
        width = max(1, round(width * float(aspect)))
    return width, height


def scaled_size(width: int, height: int, short_side: int | None) -> tuple[int, int]:
    """Scales (width, height) down so that the smaller one is ``short_side``; never up."""
    small = min(width, height)
    if not short_side or small <= short_side:
        return width, height
    return max(1, round(width * short_side / small)), max(1, round(height * short_side / small))


class AudioTrack(_Track):
    """The sound of a file as mono float32, resampled, addressed by sample number.

    Sample n is heard at n / sample_rate seconds. Only what was not forgotten is in memory.

    Args:
        path: Media file.
        start: Seconds; sound before it is not needed (a seek is tried).
        sample_rate: Samples per second of the result.
    """

    kind = "audio"

    def __init__(self, path: str | os.PathLike, start: float = 0.0, sample_rate: int = 48_000):
        super().__init__(path, start)
        self.sample_rate = sample_rate
        self.start = start
        self.blocks: list[tuple[int, np.ndarray]] = []
        self.heard = False  # whether anything was decoded so far
        self._source = self._resampled() if self.stream is not None else iter(())
        self._done = False

    def read(self, first: int, count: int) -> np.ndarray | None:
        """Samples first .. first + count - 1 in [-1, 1]; gaps are silence.

        Returns:
            float32 [count], or None when the file has no sound at all in this stretch.
        """
        while not self._done and not (self.blocks and self._end() >= first + count):
            self._pull()
        result = np.zeros(count, np.float32)
        found = False
        for position, block in self.blocks:
            low, high = max(first, position), min(first + count, position + len(block))
            if low < high:
                result[low - first : high - first] = block[low - position : high - position]
                found = True
        if not found:
            return None
        np.nan_to_num(result, copy=False)
        return np.clip(result, -1.0, 1.0, out=result)

    def available(self, first: int, count: int | None) -> int:
        """How many of the samples from ``first`` on there are, at most ``count``.

        Reads on as far as needed and forgets what lies before ``first``.
        """
        while not self._done and (count is None or self.end < first + count):
            self._pull()
            self.forget(first)
        left = max(0, self.end - first)
        return left if count is None else min(left, count)

    @property
    def end(self) -> int:
        """Number of the sample after the last one that was decoded."""
        return self._end() if self.blocks else 0

    @property
    def ended(self) -> bool:
        """Whether the sound was read to its end."""
        return self._done

    def read_all(self) -> np.ndarray | None:
        """Everything from time 0 to the end of the sound."""
        while not self._done:
            self._pull()
        return self.read(0, self._end()) if self.blocks and self._end() > 0 else None

    def drain(self) -> float:
        """Reads on to the end without keeping anything; the end of the sound in seconds."""
        end = self._end() if self.blocks else 0
        for position, block in self._source:
            end = max(end, position + len(block))
        self._done = True
        return end / self.sample_rate

    def forget(self, before: int) -> None:
        """Frees the sound before sample number ``before``."""
        # The last block stays: it tells where the sound goes on.
        while len(self.blocks) > 1 and self.blocks[0][0] + len(self.blocks[0][1]) <= before:
            self.blocks.pop(0)

    def _end(self) -> int:
        position, block = self.blocks[-1]
        return position + len(block)

    def _pull(self) -> None:
        block = next(self._source, None)
        if block is None:
            self._done = True
        elif not self.heard and self.start > 0 and block[0] > self.start * self.sample_rate:
            # The seek came out behind the target (or the sound begins late): from the front.
            self.close()
            self.start = 0.0
            self.container = open_container(self.path)
            self.stream = pick_stream(self.container, self.kind)
            self._source = self._resampled()
        else:
            self.heard = True
            self.blocks.append(block)

    def _resampled(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yields (first sample number, samples) in order."""
        resampler, setup = None, None
        position = 0  # sample number of the next resampled sample
        expected = 0.0  # seconds at which the next frame should begin
        for frame in self._decoded():
            if frame.samples == 0 or not frame.sample_rate:
                continue
            time = self._time(frame)
            if time is None:
                time = expected
            format_now = (frame.format.name, frame.layout.name, frame.sample_rate)
            jump = abs(time - expected) > AUDIO_JITTER_SECONDS
            if resampler is None or jump or format_now != setup:
                # A gap, a jump or another format: finish what went before, start at the new place.
                if resampler is not None:
                    for samples in _run(resampler, None):
                        yield position, samples
                        position += len(samples)
                if resampler is None or jump:
                    position = round(time * self.sample_rate)
                resampler = av.AudioResampler(format="flt", layout="mono", rate=self.sample_rate)
                setup = format_now
                expected = time
            expected += frame.samples / frame.sample_rate
            frame.pts = None
            try:
                for samples in _run(resampler, frame):
                    yield position, samples
                    position += len(samples)
            except (av.error.FFmpegError, ValueError) as error:
                self.damaged_packets += 1
                self.first_error = self.first_error or reason_of(error)
                resampler = None
        if resampler is not None:
            for samples in _run(resampler, None):
                yield position, samples
                position += len(samples)


def _run(resampler: Any, frame: Any) -> Iterator[np.ndarray]:
    for block in resampler.resample(frame):
        samples = block.to_ndarray().reshape(-1)
        if len(samples):
            yield samples.astype(np.float32, copy=False)
