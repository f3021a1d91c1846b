"""The sound of a media file as mono samples of one rate, placed by its time stamps."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import av
import numpy as np

from vatt_tf.data.media.tracks.clock import Clock
from vatt_tf.data.media.tracks.container import MediaError, reason_of
from vatt_tf.data.media.tracks.track import Track, with_next

# The place of the sound is the number of samples before it; the stamps of browsers and streams
# jitter by tens of milliseconds. Beyond this there is a gap.
AUDIO_GAP_SECONDS = 0.100
# Where stamps and samples are this far apart on average, small gaps or a clock that is off have
# added up.
AUDIO_DRIFT_SECONDS = 0.045
_MEAN_OF = 64  # frames of sound, somewhat more than a second
_TOGETHER = 8192  # samples that are resampled at once
# A header can announce any rate: a few bytes would become hours.
LEAST_SAMPLE_RATE = 1000
# Sound that is read whole: silence takes the least, three bytes for 20 ms.
_SAMPLES_PER_BYTE, _ANY_SECONDS = 1000, 600


class AudioTrack(Track):
    """The sound of a file as mono float32, resampled, addressed by sample number.

    Sample n is heard at n / sample_rate seconds. Only what was not forgotten is in memory.

    Args:
        path: Media file.
        start: Seconds; sound before it is not needed (a seek is tried).
        sample_rate: Samples per second of the result.
        clock: Clock of the file, shared with its picture.
    """

    kind = "audio"

    def __init__(
        self,
        path: str | os.PathLike,
        start: float = 0.0,
        sample_rate: int = 48_000,
        clock: Clock | None = None,
    ):
        super().__init__(path, start, clock)
        self.sample_rate = sample_rate
        self.start = start
        self.blocks: list[tuple[int, np.ndarray]] = []
        self.heard = False  # whether anything was decoded so far
        self._source = self._resampled() if self.stream is not None else iter(())
        self._done = False
        self._restarts = self.restarts

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
        """Everything from time 0 to the end of the sound.

        Raises:
            MediaError: More sound than a file of this size can hold.
        """
        most = _SAMPLES_PER_BYTE * os.path.getsize(self.path) + _ANY_SECONDS * self.sample_rate
        while not self._done:
            self._pull()
            if self.end > most:
                raise MediaError(
                    f"{self.path}: the sound reaches {self.end / self.sample_rate:.0f} s, more "
                    "than a file of its size can hold; it is damaged"
                )
        return self.read(0, self._end()) if self.blocks and self._end() > 0 else None

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
            return
        position, samples = block
        if self.restarts != self._restarts:  # the clock jumps: what was read stands elsewhere
            self._restarts = self.restarts
            self.blocks.clear()
        if not self.heard and self._sought and position > self.start * self.sample_rate:
            # The seek came out behind the target (or the sound begins late): from the front.
            self._from_the_front()
            self._source = self._resampled()
            return
        self.heard = True
        # What was heard stays: a stream that goes back a little says it again.
        again = max(0, self._end() - position) if self.blocks else 0
        first = position + again
        if again < len(samples) and first + len(samples) - again > self.start * self.sample_rate:
            self.blocks.append((first, samples[again:]))

    def _resampled(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yields (first sample number, mono samples in [-1, 1] but for overshoot) in order."""
        run = _Run(0, self.sample_rate, self.sample_rate)
        started = False
        expected = lag = 0.0  # seconds at which the next frame begins; stamps are later on average
        before = 0.0  # stamp of the last frame
        for frame, following in with_next(self._sound()):
            seconds = frame.samples / frame.sample_rate
            time, after = self._time(frame), None if following is None else self._time(following)
            late = 0.0 if time is None else time - expected
            if not started:
                jump = started = True
            elif time is not None and self.clock.seam(before, time) is not None:
                jump = True
            elif abs(late) > AUDIO_GAP_SECONDS:
                # A single wrong stamp is none.
                jump = after is None or abs(after - expected - seconds) > AUDIO_GAP_SECONDS
            else:
                lag += (late - lag) / _MEAN_OF
                jump = abs(lag) > AUDIO_DRIFT_SECONDS
                late = lag
            before = before if time is None else time
            if jump:
                expected, lag = expected + late, 0.0
            if jump or frame.sample_rate != run.rate:
                yield from run.given(at_end=True)
                first = round(expected * self.sample_rate) if jump else run.position
                run = _Run(first, frame.sample_rate, self.sample_rate)
            expected += seconds
            run.take(self._mono(frame))
            yield from run.given()
        yield from run.given(at_end=True)

    def _sound(self) -> Iterator[Any]:
        """Frames that hold samples of a rate that can be."""
        for frame in self._decoded():
            if not frame.samples:
                continue
            if frame.sample_rate >= LEAST_SAMPLE_RATE:
                yield frame
            else:
                self._damaged(f"a sample rate of {frame.sample_rate} Hz")

    def _mono(self, frame: Any) -> np.ndarray:
        try:
            return mono(frame)
        except (ValueError, OSError) as error:  # a format that has no array
            self._damaged(reason_of(error))
            return np.zeros(frame.samples, np.float32)

    def _damaged(self, why: str) -> None:
        self.damaged_packets += 1
        self.first_error = self.first_error or why


def mono(frame: Any) -> np.ndarray:
    """The mean of the channels, which is never louder than they are: float32 [samples]."""
    values = frame.to_ndarray()
    if not frame.format.is_planar:
        values = values.reshape(frame.samples, -1).T
    kind = values.dtype
    if kind == np.uint8:
        values = (values.astype(np.float32) - 128.0) / 128.0
    elif kind.kind == "i":
        values = values.astype(np.float32 if kind.itemsize < 4 else np.float64)
        values *= 2.0 ** (1 - 8 * kind.itemsize)
    mean: np.ndarray = values.mean(axis=0) if len(values) > 1 else values[0]
    return mean.astype(np.float32, copy=False)


class _Run:
    """Sound without a gap, resampled some frames at a time.

    Args:
        position: Number of the first resampled sample.
        rate: Samples per second of the sound.
        wanted: Samples per second of the result.
    """

    def __init__(self, position: int, rate: int, wanted: int):
        self.position, self.rate = position, rate
        self._held: list[np.ndarray] = []
        self._resampler = None if rate == wanted else av.AudioResampler("flt", "mono", wanted)

    def take(self, samples: np.ndarray) -> None:
        """Takes the next mono samples."""
        self._held.append(samples)

    def given(self, at_end: bool = False) -> Iterator[tuple[int, np.ndarray]]:
        """Yields (sample number, samples) where there is enough for a block."""
        if self._held and (at_end or sum(map(len, self._held)) >= _TOGETHER):
            samples, self._held = np.concatenate(self._held), []
            yield from self._placed(self._resampled(samples))
        if at_end and self._resampler is not None:
            yield from self._placed(self._resampler.resample(None))

    def _resampled(self, samples: np.ndarray) -> list[Any]:
        if self._resampler is None:
            return [samples]
        frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
        frame.sample_rate = self.rate
        return self._resampler.resample(frame)

    def _placed(self, blocks: list[Any]) -> Iterator[tuple[int, np.ndarray]]:
        for block in blocks:
            samples = block if isinstance(block, np.ndarray) else block.to_ndarray().reshape(-1)
            yield self.position, samples
            self.position += len(samples)
