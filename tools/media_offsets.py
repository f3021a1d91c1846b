"""Measures how far picture and sound of each clip of media files are from where they belong.

    python tools/media_offsets.py FOLDER [FOLDER ...]

Every file is cut into clips of 3 s with 10 frames a second. Where each frame and the sound of a
clip belong is told by PyAV alone: the frame of the file that is most like it, and the place of the
file's sound at which the clip's correlates best, by FFmpeg's time stamps. A row of the table is a
file: the largest offset of a picture, in frames of the file, and of a sound, in ms.
"""

from __future__ import annotations

import contextlib
import pathlib
from typing import Any

import av
import numpy as np

from vatt_tf import cli
from vatt_tf.data import media
from vatt_tf.data.media.scan import MEDIA_SUFFIXES
from vatt_tf.data.media.spans import Grid

CLIP_SECONDS, FRAME_RATE, SAMPLE_RATE, SIDE = 3.0, 10.0, 48_000, 48
AROUND_SECONDS = 1.0  # frames are looked for this far from their place
MOST_LAG = SAMPLE_RATE // 10
GAP_SECONDS = 0.1  # smaller ones are jitter of the stamps (docs/preparing_data.md)


def stock(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times and small grey pictures of the frames that PyAV decodes, and the sound from time 0."""
    times: list[float] = []
    pictures: list[np.ndarray] = []
    pieces: list[tuple[float, int, np.ndarray]] = []
    with av.open(str(path), metadata_errors="replace") as file:
        start = (file.start_time or 0) / av.time_base
        video = file.streams.best("video")
        audio = file.streams.best("audio", related=video)
        for packet in file.demux([stream for stream in (video, audio) if stream]):
            with contextlib.suppress(av.error.FFmpegError, ValueError):
                frames: Any = packet.decode()
                for frame in frames:
                    if packet.stream.type == "video":
                        times.append(frame.time - start)
                        upright = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
                        pictures.append(small(upright))
                    elif frame.samples:
                        samples = frame.to_ndarray()
                        if not frame.format.is_planar:
                            samples = samples.reshape(frame.samples, -1).T
                        mono = samples.astype(np.float64).mean(axis=0)
                        pieces.append((frame.time - start, frame.sample_rate, mono))
    return np.array(times), np.array(pictures), heard(pieces)


def small(picture: np.ndarray) -> np.ndarray:
    """A picture as SIDE x SIDE grey values."""
    rows = np.linspace(0, picture.shape[0] - 1, SIDE).round().astype(int)
    columns = np.linspace(0, picture.shape[1] - 1, SIDE).round().astype(int)
    return picture[np.ix_(rows, columns)].mean(axis=2)


def heard(pieces: list[tuple[float, int, np.ndarray]]) -> np.ndarray:
    """The sound at SAMPLE_RATE: samples in a row, but for gaps of more than 0.1 s."""
    if not pieces:
        return np.zeros(0)
    places: list[np.ndarray] = []
    end = -np.inf
    for start, rate, samples in pieces:
        start = start if abs(start - end) > GAP_SECONDS else end
        places.append(start + np.arange(len(samples)) / rate)
        end = start + len(samples) / rate
    times = np.arange(int(end * SAMPLE_RATE)) / SAMPLE_RATE
    return np.interp(times, np.concatenate(places), np.concatenate([s for *_, s in pieces]), left=0)


def picture_offset(clip: Any, times: np.ndarray, pictures: np.ndarray) -> float:
    """Seconds by which the worst frame of a clip is off."""
    worst = 0.0
    for number, frame in enumerate(clip.frames):
        due = clip.start + number / FRAME_RATE
        near = np.flatnonzero(np.abs(times - due) < AROUND_SECONDS)
        if not len(near):
            continue
        unlike = np.abs(pictures[near] - small(frame)).mean(axis=(1, 2))
        alike = near[unlike <= unlike.min() + 0.25]  # a picture that stands still is at every place
        worst = max(worst, np.abs(times[alike] - due).min())
    return worst


def sound_offset(clip: Any, sound: np.ndarray) -> float | None:
    """Seconds by which the sound of a clip is late, None for silence."""
    first = round(clip.start * SAMPLE_RATE)
    own = np.asarray(clip.waveform, np.float64)
    other = np.zeros(len(own) + 2 * MOST_LAG)
    low, high = max(0, first - MOST_LAG), first + len(own) + MOST_LAG
    piece = sound[low:high]
    begin = low - (first - MOST_LAG)
    other[begin : begin + len(piece)] = piece
    if own.std() < 1e-4 or other.std() == 0:
        return None
    size = 1 << (len(own) + len(other)).bit_length()
    product = np.fft.rfft(other, size) * np.conj(np.fft.rfft(own, size))
    energy = np.cumsum(np.r_[0.0, other**2])
    energy = energy[len(own) :] - energy[: -len(own)]
    likeness = np.fft.irfft(product)[: len(energy)] / np.sqrt(energy + 1e-9 * energy.max())
    return (MOST_LAG - int(likeness.argmax())) / SAMPLE_RATE


def measure(path: pathlib.Path) -> str:
    """The row of a file."""
    times, pictures, sound = stock(path)
    pictured, sounds, count = 0.0, [], 0
    try:
        reader = media.ClipReader(path, frame_rate=FRAME_RATE, sample_rate=SAMPLE_RATE)
        for clip in reader.clips(Grid(CLIP_SECONDS)):
            if clip.damage:
                continue
            count += 1
            pictured = max(pictured, picture_offset(clip, times, pictures))
            if clip.waveform is not None and (late := sound_offset(clip, sound)) is not None:
                sounds.append(abs(late))
        reader.close()
    except media.MediaError as error:
        return f"| {path.name} | {str(error).split(': ', 1)[-1]} | | | |"
    frame = np.median(np.diff(times)) if len(times) > 1 else 1.0
    latest = f"{1000 * max(sounds):.1f}" if sounds else "-"
    return f"| {path.name} | {count} | {len(sounds)} | {pictured / frame:.2f} | {latest} |"


def main() -> None:
    """Command line."""
    parser = cli.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="+", type=pathlib.Path, help="folders of media files")
    print(
        "| file | clips | with sound | picture off, frames | sound off, ms |\n|---|---|---|---|---|"
    )
    for folder in parser.parse_args().folders:
        for path in sorted(folder.iterdir()):
            if path.suffix in MEDIA_SUFFIXES["video"]:
                print(measure(path), flush=True)


if __name__ == "__main__":
    main()
