"""The sound of a media file as mono samples of one rate, placed by its time stamps."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import av
import numpy as np

from vatt_tf.data.media.tracks import Track, open_container, pick_stream, reason_of

# Containers time-stamp audio packets to the millisecond or so; a jump beyond this is a real gap.
AUDIO_JITTER_SECONDS = 0.010


class AudioTrack(Track):
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
