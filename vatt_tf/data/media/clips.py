"""Reading media files: clips and whole sounds, without TensorFlow (a client may use this).

All times are seconds after the start of the file. Frame k of a clip that begins at ``start`` is
the decoded frame nearest to ``start + k / frame_rate``; the sound of a clip begins at the same
instant and lasts exactly ``frames / frame_rate`` seconds, so picture and sound stay together.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

import numpy as np

from vatt_tf.data.media.spans import Grid, MediaClip, OpenClip, longest_piece
from vatt_tf.data.media.tracks.audio import AudioTrack
from vatt_tf.data.media.tracks.clock import Clock, has_clock_of_its_own, last_stamp
from vatt_tf.data.media.tracks.container import MediaError
from vatt_tf.data.media.tracks.track import HOLE_SECONDS
from vatt_tf.data.media.tracks.video import TimedFrame, VideoTrack
from vatt_tf.wording import count_of

# Skipping more than this many seconds is quicker by a seek than by decoding.
SEEK_SECONDS = 30.0
# A picture that begins later after the sound is not shown before it begins.
LATE_SECONDS = 1.0
MOST_LATE = 3  # of these that are told


class ClipReader:
    """Cuts one media file into clips in a single pass, holding one clip in memory.

    Args:
        path: Media file.
        frame_rate: Frames per second of the clips.
        short_side: Largest short side of the frames in pixels; None keeps the size.
        sample_rate: Samples per second of the sound; 0 leaves the sound out.
        transform: Applied once to every kept frame (uint8 [H, W, 3]), e.g. a JPEG encoder.

    Attributes:
        duration: Seconds up to the end of the last decoded frame.
        length: Seconds that the header announces, 0.0 if it does not.
        at_end: Whether the video was read to its end.
        problem: Why the file could not be read to its end, "" if it could. Known after the
            clips were read.
        warnings: Harmless damage found while reading.

    Raises:
        MediaError: The file cannot be opened or has no video stream.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        *,
        frame_rate: float = 10.0,
        short_side: int | None = None,
        sample_rate: int = 48_000,
        transform: Callable[[np.ndarray], Any] | None = None,
    ):
        if not frame_rate > 0:
            raise MediaError(f"frame_rate is {frame_rate}, a positive number was expected")
        self.path = path
        self.frame_rate = float(frame_rate)
        self.sample_rate = sample_rate
        self._short_side, self._transform = short_side, transform
        self.duration = 0.0
        self.at_end = False
        self._sought = False
        self._stride = SEEK_SECONDS  # what lies nearer is read up to
        self._tried = -math.inf  # the last target of a seek: each is tried once
        self.problem = ""
        self._clock = Clock(path)
        self._video = self._video_from(0.0)
        self.length = self._video.length
        self._audio = self._audio_from(0.0)
        self.warnings: list[str] = list(self._video.notes)

    def _video_from(self, start: float) -> VideoTrack:
        return VideoTrack(self.path, start, self._short_side, self._transform, self._clock)

    def _audio_from(self, start: float) -> AudioTrack | None:
        rate = self.sample_rate
        return AudioTrack(self.path, start, rate, self._clock) if rate else None

    @property
    def progress(self) -> tuple:
        """Something that changes with each packet that is read."""
        video, audio = self._video, self._audio
        return id(video), video.packets, audio is not None and audio.packets

    def close(self) -> None:
        """Closes the file."""
        self._video.close()
        if self._audio is not None:
            self._audio.close()

    def clips(self, spans: Iterable[tuple[float, float | None]]) -> Iterator[MediaClip]:
        """Yields a clip for each span that begins before the end of the video.

        Args:
            spans: (start, end) in seconds, by increasing start; they may overlap and the
                iterable may be endless. End None means the end of the video. A clip comes out
                as soon as it is complete. Where the clock of the file jumps, a `Grid` ends and
                begins anew; of another span with an end the longest part without a jump is read.

        Raises:
            MediaError: Not a single frame could be decoded.
        """
        queue = iter(enumerate(spans))
        upcoming = next(queue, None)
        active: list[OpenClip] = []
        before: TimedFrame | None = None
        failures = 0
        step = 1.0 / self.frame_rate

        def open_until(time: float) -> None:
            nonlocal upcoming
            while upcoming is not None and upcoming[1][0] <= time:
                index, (start, end) = upcoming
                active.append(OpenClip(index, start, end, self.frame_rate))
                upcoming = next(queue, None)

        if upcoming is not None:
            self._skip_to(upcoming[1][0], 0.0)
        frames = self._video.frames()
        while True:
            now = next(frames, None)
            if now is None:
                break
            if before is None and upcoming is not None and self._late_start(now, upcoming[1][0]):
                frames = self._video.frames()
                continue
            if before is not None and now.time <= before.time:  # the track began anew
                before = None
                for clip in active:
                    clip.values.clear()
            open_until(now.time + step)
            seam = None if before is None else self._clock.seam(before.time, now.time)
            begins = (before is None and not self._sought) or seam is not None
            if begins and now.time - (seam or 0.0) > LATE_SECONDS:
                seam = self._begin_late(now.time)
            if seam is not None:
                anew = isinstance(spans, Grid) and any(clip.start < seam for clip in active)
                self._end_at(seam, before, active, anew)
                before = None
                if isinstance(spans, Grid) and anew:
                    spans.begin_at(seam)
                    upcoming = next(queue, None)
                    open_until(now.time + step)
            hole = self._hole(before, now, failures)
            failures = now.damage
            for clip in active:
                if hole and before is not None and clip.due < now.time - HOLE_SECONDS / 2:
                    clip.damage = clip.damage or hole
                clip.take(before, now)
                if clip.damage:
                    clip.values = [None] * len(clip.values)
            before = now
            self.duration = max(self.duration, now.time + now.duration)
            if any(clip.complete for clip in active):
                for clip in [c for c in active if c.complete]:
                    active.remove(clip)
                    yield self._close_clip(clip)
                self._forget(active, upcoming)
            if not active:
                if upcoming is None:
                    self._collect_warnings()
                    return
                if self._skip_to(upcoming[1][0], now.time):
                    frames, before, failures = self._video.frames(), None, 0
        open_until(math.nextafter(self.duration, 0.0))
        yield from self._at_end(before, active)

    def _at_end(self, last: TimedFrame | None, active: list[OpenClip]) -> Iterator[MediaClip]:
        """The video is over: closes the open clips, then tells what is missing."""
        if last is None:
            self._collect_warnings()
            why = self._video.broken or self._video.first_error
            why = f": {why}" if why else ""
            if not self.duration:
                raise MediaError(f"{self.path}: the video stream has no frame that decodes{why}")
            return
        self.at_end = True
        for clip in active:
            if not clip.values and clip.start >= self.duration:
                continue  # begins after the last frame
            clip.finish(last, self.duration)
            yield self._close_clip(clip)
        self._collect_warnings()
        lost = self._video.length - self.duration > max(HOLE_SECONDS, 2 * last.duration)
        if lost and not self._video.damaged_packets:
            lost = self._cut_off()
        self.problem = self._video.problem(self.duration, lost)

    def _begin_late(self, time: float) -> float:
        """Clips begin with the picture; nobody sees what goes with the sound before it."""
        note = f"the picture begins at {time:.2f} s; so do the clips"
        if len(self.warnings) < MOST_LATE:
            self.warnings.append(note)
        return time

    def _end_at(
        self, seam: float, before: TimedFrame | None, active: list[OpenClip], anew: bool
    ) -> None:
        """Ends the open clips at a jump of the clock, also those behind it where all begin anew."""
        timeline = self._clock.timeline
        seams, ends = ([], {}) if timeline is None else (timeline.seams, timeline.ends)
        end = -math.inf if before is None else min(before.time + before.duration, seam)
        last = max(seam, ends.get(self._video.stream.index, math.inf))
        for clip in list(active):
            if clip.wanted_end is None or (clip.start >= seam and not anew):
                continue  # asked for up to the end of the file; or behind the jump
            if not anew:
                until = max(seam, min(clip.wanted_end, last))
                first, stop = longest_piece(clip.start, until, seams) if before else (seam, until)
                if clip.start < first < stop:
                    clip.keep(first, stop)
                    continue
            if before is not None and clip.start < end:
                clip.end_at(before, end)
            else:
                active.remove(clip)

    def _cut_off(self) -> bool:
        """Whether a file without decoding errors is shorter than its header promises."""
        video, timeline = self._video, self._clock.timeline
        if has_clock_of_its_own(video.container) or (timeline is not None and timeline.jumps):
            return False  # these have no header (FFmpeg estimates), or one that is wrong
        # One length for the file: sound or subtitles may last longer than the picture, and a file
        # that begins late has its first seconds in it.
        return bool(video.stream.duration) or last_stamp(self.path) < video.length - HOLE_SECONDS

    def _close_clip(self, clip: OpenClip) -> MediaClip:
        count = len(clip.values)
        end = clip.start + count / self.frame_rate
        missing = 0.0 if clip.wanted_end is None else max(0.0, clip.wanted_end - end)
        if missing < 0.5 / self.frame_rate + 1e-6:
            missing = 0.0
        waveform = None
        if self._audio is not None and not clip.damage:
            first = round(clip.start * self.sample_rate)
            waveform = self._audio.read(first, round(count / self.frame_rate * self.sample_rate))
        return MediaClip(
            [] if clip.damage else clip.values,
            waveform,
            clip.start,
            end,
            clip.span,
            missing,
            clip.damage,
            clip.cut,
        )

    def _hole(self, before: TimedFrame | None, now: TimedFrame, failures: int) -> str:
        """Says so when frames are missing between two decoded ones because of damage."""
        if before is None or now.damage == failures:
            return ""
        if now.time - before.time - before.duration <= HOLE_SECONDS:
            return ""
        return (
            f"damaged from {before.time + before.duration:.2f} s to {now.time:.2f} s: "
            f"{self._video.first_error}"
        )

    def _late_start(self, now: TimedFrame, start: float) -> bool:
        """After a seek that came out behind the target, begins again at the front."""
        if not self._sought or now.time <= start:
            return False
        self._stride = math.inf  # no seek in this file
        self._begin_at(self._video_from(0.0), 0.0)
        return True

    def _skip_to(self, start: float, now: float) -> bool:
        """Seeks to a span that lies further on; False where reading on is as near as a seek."""
        if start <= max(now + self._stride, self._tried):
            return False
        self._tried = start
        video = self._video_from(start)
        if video.landing <= now:
            video.close()
            self._stride = 2.0 * (start - now)  # the points that a seek can reach lie far apart
            return False
        self._begin_at(video, start)
        return True

    def _begin_at(self, video: VideoTrack, start: float) -> None:
        self._collect_warnings()
        self.close()
        self._sought = start > 0.0
        self._video, self._audio = video, self._audio_from(start)

    def _forget(self, active: list[OpenClip], upcoming: Any) -> None:
        if self._audio is None:
            return
        starts = [clip.start for clip in active]
        if upcoming is not None:
            starts.append(upcoming[1][0])
        if starts:
            self._audio.forget(round(min(starts) * self.sample_rate))

    def _collect_warnings(self) -> None:
        video, audio = self._video, self._audio
        notes = []
        if video.damaged_packets:
            notes.append(
                f"{count_of(video.damaged_packets, 'damaged video packet')} ({video.first_error})"
            )
        if video.late_frames:
            notes.append(
                f"{count_of(video.late_frames, 'frame')} left out because their times go back"
            )
        if video.mended_frames:
            notes.append(
                f"{count_of(video.mended_frames, 'frame')} with a wrong time, placed between the "
                "frames around"
            )
        if self._clock.timeline is not None:
            notes += self._clock.timeline.notes
        if video.corrupt_frames:
            notes.append(count_of(video.corrupt_frames, "damaged video frame"))
        if audio is not None and audio.stream is not None:
            if audio.broken or audio.damaged_packets:
                why = audio.broken or audio.first_error
                count = count_of(audio.damaged_packets, "damaged audio packet")
                notes.append(f"{count} ({why})" if audio.damaged_packets else f"audio ends: {why}")
            if audio._done and not audio.heard:
                notes.append("the audio stream has no sound that decodes")
        self.warnings.extend(note for note in notes if note not in self.warnings)


def iter_clips(
    path: str | os.PathLike,
    spans: Iterable[tuple[float, float | None]],
    *,
    frame_rate: float = 10.0,
    short_side: int | None = None,
    sample_rate: int = 48_000,
) -> Generator[MediaClip, None, None]:
    """Cuts a file into clips, in one pass, one clip in memory.

    Args:
        path: Media file.
        spans: (start, end) in seconds by increasing start; see ``ClipReader.clips``.
        frame_rate: Frames per second of the clips.
        short_side: Largest short side in pixels; None keeps the size.
        sample_rate: Samples per second of the sound; 0 leaves the sound out.

    Yields:
        ``MediaClip`` with uint8 frames [T, H, W, 3]. Damaged clips are left out.

    Raises:
        MediaError: The file cannot be opened, has no video, or not a frame of it decodes.
    """
    reader = ClipReader(path, frame_rate=frame_rate, short_side=short_side, sample_rate=sample_rate)
    try:
        for clip in reader.clips(spans):
            if not clip.damage:
                clip.frames = np.stack(clip.frames)
                yield clip
    finally:
        reader.close()


def read_clip(
    path: str | os.PathLike,
    start: float = 0.0,
    end: float | None = None,
    *,
    frame_rate: float = 10.0,
    short_side: int | None = None,
    sample_rate: int = 48_000,
) -> MediaClip:
    """Reads one clip of a video file.

    Args:
        path: Media file.
        start: Seconds.
        end: Seconds; None reads to the end (the whole clip is held in memory).
        frame_rate: Frames per second of the clip.
        short_side: Largest short side in pixels; None keeps the size.
        sample_rate: Samples per second of the sound; 0 leaves the sound out.

    Returns:
        ``MediaClip`` with uint8 frames [T, H, W, 3] and a float32 waveform or None.

    Raises:
        MediaError: The file cannot be read, or the span lies outside the video.
    """
    if start < 0 or (end is not None and end <= start):
        raise MediaError(f"{path}: the span {start}-{end} s is not one; 0 <= start < end expected")
    clips = iter_clips(
        path,
        [(start, end)],
        frame_rate=frame_rate,
        short_side=short_side,
        sample_rate=sample_rate,
    )
    for clip in clips:
        clips.close()
        return clip
    raise MediaError(f"{path}: no usable frame from {start:.2f} s on")


def read_audio(path: str | os.PathLike, *, sample_rate: int = 48_000) -> np.ndarray:
    """Reads the sound of an audio or video file.

    Args:
        path: Media file.
        sample_rate: Samples per second of the result.

    Returns:
        float32 [N], mono, in [-1, 1], from the start of the file on.

    Raises:
        MediaError: The file cannot be read or has no sound.
    """
    track = AudioTrack(path, 0.0, sample_rate)
    try:
        if track.stream is None:
            raise MediaError(f"{path}: no audio stream (container {track.container.format.name})")
        samples = track.read_all()
        if samples is None:
            why = track.broken or track.first_error
            raise MediaError(f"{path}: no sound that decodes{': ' + why if why else ''}")
        return samples
    finally:
        track.close()
