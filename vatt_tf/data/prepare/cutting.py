"""From one video to its clips: where it is cut, and which captions and labels go with each clip."""

from __future__ import annotations

import dataclasses
import heapq
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import av

from vatt_tf.data.media.ahead import clips_of
from vatt_tf.data.media.captions import Caption, CaptionError, Timeline, read_captions
from vatt_tf.data.media.clips import ClipReader
from vatt_tf.data.media.readers import AudioReader, ImageReader
from vatt_tf.data.media.spans import Grid, MediaClip
from vatt_tf.data.media.tracks.clock import end_of
from vatt_tf.data.media.tracks.container import MediaError, SoundOnlyError, UnreachableError
from vatt_tf.data.prepare.plan import Settings, Video
from vatt_tf.wording import count_of

# A clip may be this much shorter than asked for without a word: headers round.
SHORTFALL_SECONDS = 0.5
# Clips around captions may overlap: as many of five seconds as there are words in a quick speech.
MOST_AT_A_TIME = 32
# What FFmpeg's bindings raise for files that no rule foresaw; one file must not end the job.
_ODD = (av.error.FFmpegError, OSError, ValueError, ArithmeticError, MemoryError, RuntimeError)


Spans = Iterable[tuple[float, float | None]]


@dataclasses.dataclass
class LabelledClip:
    """A clip with its texts, those of its own row first, and its labels."""

    media: MediaClip
    captions: list[Caption]
    labels: list[str]

    @property
    def has_words(self) -> bool:
        """Whether any caption overlaps the clip; the others are its neighbours."""
        start, end = self.media.start, self.media.end
        return any(c.start < end and max(c.end, c.start + 1e-6) > start for c in self.captions)


class VideoClips:
    """The clips of one video; iterate once, then read what was found.

    Args:
        video: Entry of the plan.
        settings: What decides the content of the shards.
        transform: Applied to every kept frame (uint8 [H, W, 3]).

    Attributes:
        quarantine: Reasons why the video, a part of it, or its caption file is left out.
        warnings: What was mended or is damaged without harm.
        captions: Captions of the video.
        records: Clips given out so far.
        unreachable: Whether the operating system did not give the file: another run may read it.
        fraction: Share of the video that was read (0 to 1), for progress bars.
    """

    def __init__(self, video: Video, settings: Settings, transform: Callable[[Any], Any]):
        self.video, self.settings = video, settings
        self._transform = transform
        self.quarantine: list[str] = []
        self.warnings: list[str] = []
        self.captions: list[Caption] = []
        self.records = 0
        self.unreachable = False
        self.fraction = 0.0
        self._length = 0.0  # seconds by the header
        self._crowded = 0  # clips whose captions are not all stored
        self._end = 0.0  # seconds up to which it was read
        self._whole = 0.0  # seconds that can be read, where this was looked up

    def __iter__(self) -> Iterator[LabelledClip]:
        try:
            self.captions = self._read_captions()
            self._timeline = Timeline(self.captions)
            yield from self._all_clips()
            if self._crowded:
                self.warnings.append(
                    f"{count_of(self._crowded, 'clip')} with too many or too long captions to "
                    "store; every second, fourth, ... is left out"
                )
        except SoundOnlyError as error:
            reason = _without_path(str(error), self.video.path)
            self.quarantine.append(f"{reason}; --media=audio takes the sound alone")
        except MediaError as error:
            self.unreachable = isinstance(error, UnreachableError)
            self.quarantine.append(_without_path(str(error), self.video.path))
        except _ODD as error:
            self.quarantine.append(f"cannot be decoded: {type(error).__name__}: {error}")

    def _all_clips(self) -> Iterator[LabelledClip]:
        rows = self.video.rows
        timed = [row for row in rows if row[0] is not None]
        if timed and self.settings.media == "image":
            self.quarantine.append("an image has no times: leave start and end of its line empty")
        elif timed:
            yield from self._timed(timed)
        whole = [row for row in rows if row[0] is None]
        if whole or not rows:
            labels = [label for row in whole for label in row[2]]
            yield from self._cut(labels, [text for row in whole for text in row[3]])

    def _read_captions(self) -> list[Caption]:
        captions = []
        for start, end, _, texts in self.video.rows:
            begin = -math.inf if start is None else start
            until = math.inf if end is None else end
            captions += [Caption(begin, until, text) for text in texts]
        if not captions and self.video.captions is not None:
            try:
                captions, notes = read_captions(self.video.captions)
                self.warnings.extend(notes)
            except CaptionError as error:
                self.quarantine.append(f"captions not used: {error}")
        start, end = self._part
        return [c for c in captions if c.whole or (c.end > start and c.start < end)]

    @property
    def _part(self) -> tuple[float, float]:
        """Start and end of what belongs to the split."""
        start, end = self.video.part or (0.0, None)
        return start, math.inf if end is None else end

    def _grid(self) -> Grid:
        """Clips of one length, one after the other; without end where the file's end is one."""
        first, last = self._part
        least = max(self.settings.min_clip_seconds, 1.0 / self.settings.frame_rate)
        return Grid(self.settings.clip_seconds or 10.0, first=first, last=last, least=least)

    def _reader(self) -> ClipReader | AudioReader | ImageReader:
        settings = self.settings
        frames: dict[str, Any] = {
            "frame_rate": settings.frame_rate,
            "short_side": settings.short_side,
            "transform": self._transform,
        }
        reader: ClipReader | AudioReader | ImageReader
        if settings.media == "image":
            reader = ImageReader(self.video.path, **frames)
        elif settings.media == "audio":
            reader = AudioReader(self.video.path, sample_rate=settings.sample_rate)
        else:
            reader = ClipReader(self.video.path, sample_rate=settings.sample_rate, **frames)
        self._length = reader.length
        return reader

    def _run(self, spans: Spans | Callable[[], Spans]) -> Iterator[MediaClip]:
        """Reads the clips of some spans and books what the reader has to say."""
        reader = self._reader()
        cut: list[str] = []
        try:
            with clips_of(reader, spans) as clips:
                for clip in clips:
                    if clip.cut and not isinstance(spans, Grid):
                        cut.append(f"{clip.start:.2f}-{clip.end:.2f} s")
                    if self._length:
                        self.fraction = min(1.0, clip.end / self._length)
                    yield clip
        finally:
            self._end = reader.duration
        if reader.problem:
            self.quarantine.append(reader.problem)
        self.warnings.extend(note for note in reader.warnings if note not in self.warnings)
        if cut:
            self.warnings.append(
                f"{count_of(len(cut), 'clip')} cut to the longest part without a jump of time: "
                + ", ".join(cut[:3] + ["..."] * (len(cut) > 3))
            )
        known = reader.duration if reader.at_end else self._whole
        late = sum(c.start >= known for c in self.captions) if known else 0
        if late and self.video.captions and not reader.problem:
            self.warnings.append(
                f"{count_of(late, 'caption')} after the end of the video ({known:.2f} s)"
            )

    def _timed(self, rows: list[tuple]) -> Iterator[LabelledClip]:
        """One clip for each span of the manifest."""
        wanted = []
        for row in rows:
            start, end = row[0], row[1]
            if end is not None and end - start > self.settings.max_clip_seconds:
                self._refuse(start, end)
            else:
                wanted.append(row)
        # The end of the video may lie too far off for an open span: read just past the limit.
        spans = [(row[0], row[1] if row[1] is not None else row[0] + self._limit) for row in wanted]
        missing = set(range(len(spans)))
        for clip in self._run(spans) if spans else ():
            row = wanted[clip.span]
            missing.discard(clip.span)
            if row[1] is None and not (clip.damage or clip.missing or clip.cut):
                self._refuse(clip.start, clip.end)
                continue
            if row[1] is not None and clip.missing > SHORTFALL_SECONDS and not clip.cut:
                self.warnings.append(
                    f"the span {row[0]:g}-{row[1]:g} s ends after the video; the clip ends at "
                    f"{clip.end:.2f} s"
                )
            yield from self._finished(clip, row[2], row[3])
        for index in sorted(missing):
            start = wanted[index][0]
            self.quarantine.append(
                f"the span from {start:g} s on begins after the end of the video "
                f"({self._end:.2f} s)"
            )

    @property
    def _limit(self) -> float:
        """Longest clip, and one frame more."""
        return self.settings.max_clip_seconds + 1.0 / self.settings.frame_rate

    def _cut(self, labels: list[str], texts: list[str]) -> Iterator[LabelledClip]:
        """Cuts the whole video as the settings say."""
        cut = self.settings.cut
        if self.settings.media == "image":
            for clip in self._run([(0.0, None)]):
                yield from self._finished(clip, labels, texts)
            return
        timed = [caption for caption in self.captions if not caption.whole]
        if cut == "whole":
            for clip in self._run([(0.0, self._limit)]):
                if not (clip.missing or clip.cut or clip.damage):
                    self.quarantine.append(
                        f"longer than --max_clip_seconds={self.settings.max_clip_seconds:g}, so it "
                        "cannot be one clip; use --cut=fixed"
                    )
                else:
                    yield from self._finished(clip, labels, texts)
        elif cut == "captions" and timed:
            for clip in self._run(self._caption_spans):
                yield from self._finished(clip, labels, texts)
        else:
            grid = self._grid()
            for clip in self._run(grid):
                if grid.keeps(clip, self.settings.min_clip_seconds):
                    yield from self._finished(clip, labels, texts)
            if grid.left_out:
                self.warnings.append(
                    f"{grid.left_out:.2f} s left out: too little between jumps of the clock"
                )

    def _caption_spans(self) -> list[tuple[float, float | None]]:
        """The span of each caption, widened evenly to the clip length inside the video."""
        kind = "audio" if self.settings.media == "audio" else "video"
        last = self._whole = end_of(self.video.path, kind)
        spans = set()
        too_long = []
        for caption in self.captions:
            if caption.whole or (last and caption.start >= last):
                continue
            start, end = caption.start, caption.end
            if math.isinf(end):
                end = max(start, last or self._length)
            if end - start > self.settings.max_clip_seconds:
                too_long.append((start, end))
                continue
            lack = max(self.settings.clip_seconds, 1.0 / self.settings.frame_rate) - (end - start)
            if lack > 0:
                start, end = start - lack / 2, end + lack / 2
                if last and end > last:
                    start, end = start - (end - last), last
                if start < 0:
                    start, end = 0.0, end - start
            if start >= self._part[0] and end <= self._part[1]:
                spans.add((round(start, 6), round(end, 6)))
        for start, end in too_long[:3]:
            self._refuse(start, end)
        if len(too_long) > 3:
            self.quarantine.append(f"{len(too_long) - 3:,} more captions are as long")
        return self._thinned(sorted(spans))

    def _thinned(self, spans: list[tuple[float, float]]) -> list[tuple[float, float | None]]:
        """The spans without those that would show a moment once more than ``MOST_AT_A_TIME``."""
        kept: list[tuple[float, float | None]] = []
        ends: list[float] = []
        for start, end in spans:
            while ends and ends[0] <= start:
                heapq.heappop(ends)
            if len(ends) < MOST_AT_A_TIME:
                heapq.heappush(ends, end)
                kept.append((start, end))
        if len(kept) < len(spans):
            self.warnings.append(
                f"{count_of(len(spans) - len(kept), 'caption')} without a clip of their own: "
                f"{MOST_AT_A_TIME} clips show the same moment already"
            )
        return kept

    def _refuse(self, start: float, end: float) -> None:
        self.quarantine.append(
            f"the span {start:g}-{end:g} s is longer than "
            f"--max_clip_seconds={self.settings.max_clip_seconds:g}"
        )

    def _finished(
        self, clip: MediaClip, labels: list[str], texts: list[str]
    ) -> Iterator[LabelledClip]:
        if clip.damage:
            self.quarantine.append(
                f"{clip.damage}; the clip at {clip.start:.2f}-{clip.end:.2f} s is left out"
            )
            return
        self.records += 1
        captions, more = self._timeline.near(clip.start, clip.end)
        self._crowded += bool(more)
        # Rows may lie within each other: readers take the first of captions that fit as well.
        captions.sort(key=lambda caption: caption.text not in texts)
        yield LabelledClip(clip, captions, labels)


def _without_path(message: str, path: str) -> str:
    """The reason alone: the file is named beside it in the manifest."""
    return message.removeprefix(f"{path}: ")
