"""The sample set: short narrated videos of moving coloured shapes, made on the spot.

Each clip shows one of 8 colours x 8 shapes x 8 motions; its sound tells the same three things, one
in each of three registers (colour: a low steady tone, shape: a middle steady tone, motion: a high
tone that sweeps, swells or beats); its two captions name all three. Half of the 512 combinations
are held out as ``val``, one clip each, so that captions are unique in that pool. Every pair of
attributes occurs in ``train``, so a model can answer only by composing what it has learnt. The
bytes depend on nothing but the version of FFmpeg.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import json
import math
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from vatt_tf.atomic import new_file, write_text
from vatt_tf.errors import UserError
from vatt_tf.progress_bar import progress_bar

COLOURS = {
    "red": (230, 30, 30),
    "orange": (255, 140, 0),
    "yellow": (250, 235, 40),
    "green": (30, 190, 40),
    "turquoise": (40, 220, 220),
    "blue": (40, 70, 240),
    "pink": (250, 80, 200),
    "white": (245, 245, 245),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "diamond", "moon")
MOTIONS = {
    "left": "moving to the left",
    "right": "moving to the right",
    "up": "moving up",
    "down": "moving down",
    "bigger": "getting bigger",
    "smaller": "getting smaller",
    "round": "going round in circles",
    "blinking": "blinking on and off",
}
TEMPLATES = (
    "Here you can see a {colour} {shape} {motion}.",
    "Look, there is a {colour} {shape} that is {motion}.",
    "Now a {shape} that is {colour} is {motion}.",
    "Watch the {colour} {shape}, it is {motion}.",
    "This {colour} {shape} is {motion} on the screen.",
    "We have a {shape} here, a {colour} one, {motion}.",
    "So the {colour} {shape} keeps {motion}.",
    "What you hear is a {colour} {shape} {motion}.",
)
SECONDS = 3.2
FRAME_RATE = 10
SIZE = 96
SAMPLE_RATE = 24_000
TRAIN_CLIPS = 2  # of each train combination
# How many clips, the first of all, for commands that are typed as they stand.
CLIPS_VARIABLE = "VATT_TF_SAMPLE_CLIPS"
FEWEST = 16  # both splits, more than one motion
# A combination is held out when the sum of its three indices modulo 8 is one of these: every pair
# of attributes then meets four held-out and four train values of the third.
HELD_OUT = (0, 2, 3, 6)


@dataclasses.dataclass(frozen=True)
class SampleClip:
    """One clip of the sample set; ``number`` is its seed."""

    number: int
    split: str
    colour: str
    shape: str
    motion: str

    @property
    def name(self) -> str:
        """Path in the videos folder without ending."""
        return f"{self.split}/{self.number:04d}_{self.colour}_{self.shape}_{self.motion}"


def sample_plan() -> list[SampleClip]:
    """Clips of the sample set: 512 for training, 256 held out.

    The environment variable ``VATT_TF_SAMPLE_CLIPS`` makes it the first of them only: 96 a colour.

    Raises:
        UserError: The variable is no number of clips.
    """
    clips: list[SampleClip] = []
    grid = itertools.product(enumerate(COLOURS), enumerate(SHAPES), enumerate(MOTIONS))
    for (i, colour), (j, shape), (k, motion) in grid:
        split = "val" if (i + j + k) % 8 in HELD_OUT else "train"
        for _ in range(TRAIN_CLIPS if split == "train" else 1):
            clips.append(SampleClip(len(clips), split, colour, shape, motion))
    count = os.environ.get(CLIPS_VARIABLE) or str(len(clips))
    if not count.isdecimal() or not FEWEST <= int(count) <= len(clips):
        raise UserError(
            f"{CLIPS_VARIABLE} is {count!r}, expected a whole number from {FEWEST} to {len(clips)} "
            "(unset: all)"
        )
    return clips[: int(count)]


def make_sample_videos(
    folder: str | os.PathLike, *, jobs: int = 1, quiet: bool = True
) -> pathlib.Path:
    """Makes the sample set; clips that are there already are kept.

    Args:
        folder: Where ``train/*.mp4``, ``val/*.mp4``, their captions and manifest.csv go.
        jobs: Parallel processes.
        quiet: No progress bar.

    Returns:
        Path of the manifest CSV (its captions are in the side-car files).
    """
    from vatt_tf.data.prepare.runners import workers as parallel

    folder = pathlib.Path(folder)
    clips = sample_plan()
    for split in ("train", "val"):
        (folder / split).mkdir(parents=True, exist_ok=True)
    todo = [clip for clip in clips if not (folder / f"{clip.name}.mp4").is_file()]
    bar = progress_bar(
        "sample videos", len(clips), "clips", initial=len(clips) - len(todo), quiet=quiet
    )
    if jobs == 1:
        for clip in todo:
            write_clip(clip, folder)
            bar.update()
    elif todo:
        tasks = [(todo[at : at + 16], folder) for at in range(0, len(todo), 16)]
        for _, count in parallel.run_tasks(_write_clips, tasks, jobs):
            bar.update(count)
    bar.close()
    manifest = folder / "manifest.csv"
    write_text(manifest, sample_table())
    return manifest


def sample_table() -> str:
    """The manifest CSV of the sample set."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["path", "start", "end", "label", "caption", "split"])
    for clip in sample_plan():
        writer.writerow([f"{clip.name}.mp4", 0.0, SECONDS, clip.shape, "", clip.split])
    return file.getvalue()


def sample_files() -> list[str]:
    """Names of all files of the sample set in its folder."""
    files = [f"{c.name}{end}" for c in sample_plan() for end in (".mp4", _caption_suffix(c))]
    return ["manifest.csv", *files]


def _caption_suffix(clip: SampleClip) -> str:
    return ".json" if clip.number % 2 else ".srt"


def _write_clips(clips: Sequence[SampleClip], folder: pathlib.Path, report: Any) -> int:
    for clip in clips:
        write_clip(clip, folder)
        report("read", clip.name, 1.0)
    return len(clips)


def write_clip(clip: SampleClip, folder: str | os.PathLike) -> pathlib.Path:
    """Writes the video and the caption file of one clip; returns the path of the video."""
    path = pathlib.Path(folder, f"{clip.name}.mp4")
    random = np.random.default_rng(clip.number)
    captions = _captions(clip, random)
    if _caption_suffix(clip) == ".json":
        text = json.dumps({"segments": [{"start": a, "end": b, "text": t} for a, b, t in captions]})
        write_text(path.with_suffix(".json"), text + "\n")
    else:
        cues = [
            f"{n}\n{_srt_time(a)} --> {_srt_time(b)}\n{t}\n"
            for n, (a, b, t) in enumerate(captions, 1)
        ]
        write_text(path.with_suffix(".srt"), "\n".join(cues))
    with new_file(path, suffix=".mp4") as temporary:
        write_video(temporary, draw_frames(clip, random), make_sound(clip, random))
    return path


def _captions(clip: SampleClip, random: np.random.Generator) -> list[tuple[float, float, str]]:
    first, second = random.choice(len(TEMPLATES), 2, replace=False)
    words = {"colour": clip.colour, "shape": clip.shape, "motion": MOTIONS[clip.motion]}
    middle = round(float(random.uniform(1.5, 1.7)), 2)
    return [
        (0.1, middle - 0.05, TEMPLATES[first].format(**words)),
        (middle + 0.05, 3.1, TEMPLATES[second].format(**words)),
    ]


def _srt_time(seconds: float) -> str:
    return f"00:00:{seconds:06.3f}".replace(".", ",")


def draw_frames(clip: SampleClip, random: np.random.Generator) -> np.ndarray:
    """The picture: uint8 [T, SIZE, SIZE, 3]."""
    count = round(SECONDS * FRAME_RATE)
    across, along = np.meshgrid(np.arange(SIZE) + 0.5, np.arange(SIZE) + 0.5)
    tint = random.uniform(10, 70, 3)
    slope = random.uniform(-20, 20, 2) / SIZE
    ground = tint + (slope[0] * (across - 48) + slope[1] * (along - 48))[..., None]
    colour = np.array(COLOURS[clip.colour], np.float64)
    x0, y0 = 48 + random.uniform(-6, 6, 2)
    size0 = random.uniform(21, 25)
    frames = np.empty((count, SIZE, SIZE, 3), np.uint8)
    for index in range(count):
        x, y, size, shown = _place(clip.motion, index / (count - 1), index, x0, y0, size0)
        mask = _mask(clip.shape, (across - x) / size, (along - y) / size, size)[..., None] * shown
        image = ground * (1 - mask) + colour * mask
        frames[index] = np.clip(np.rint(image), 0, 255)
    return frames


def _place(
    motion: str, share: float, index: int, x: float, y: float, size: float
) -> tuple[float, float, float, float]:
    """Centre, half size and visibility at a share (0 to 1) of the clip."""
    shift = 44 * (share - 0.5)
    shown = 1.0
    if motion == "left":
        x = 48 - shift
    elif motion == "right":
        x = 48 + shift
    elif motion == "up":
        y = 48 - shift
    elif motion == "down":
        y = 48 + shift
    elif motion == "bigger":
        size = 10 + 28 * share
    elif motion == "smaller":
        size = 38 - 28 * share
    elif motion == "round":
        angle = 2 * math.pi * index / 16
        x, y = 48 + 20 * math.cos(angle), 48 + 20 * math.sin(angle)
    elif motion == "blinking":
        shown = float(index % 8 < 5)
    return x, y, size, shown


def _mask(shape: str, x: np.ndarray, y: np.ndarray, size: float) -> np.ndarray:
    """Coverage (0 to 1) of a shape of half size 1; the edge is one pixel (1 / size) wide."""
    radius = np.hypot(x, y)
    if shape == "circle":
        inside = 1 - radius
    elif shape == "square":
        inside = 0.85 - np.maximum(abs(x), abs(y))
    elif shape == "triangle":
        inside = np.minimum((y + 1 - 2 * abs(x)) / math.sqrt(5), 0.8 - y)
    elif shape == "star":
        sector = (np.arctan2(x, -y) + math.pi / 5) % (2 * math.pi / 5) - math.pi / 5
        inside = 0.42 + 0.58 * (1 - abs(sector) * 5 / math.pi) ** 1.4 - radius
    elif shape == "cross":
        long, short = np.maximum(abs(x), abs(y)), np.minimum(abs(x), abs(y))
        inside = np.minimum(0.95 - long, 0.3 - short)
    elif shape == "ring":
        inside = 0.2 - abs(radius - 0.78)
    elif shape == "diamond":
        inside = (1 - abs(x) / 0.62 - abs(y)) * 0.55
    else:  # moon
        inside = np.minimum(1 - radius, np.hypot(x - 0.55, y) - 0.8)
    return np.clip(inside * size + 0.5, 0, 1)


def make_sound(clip: SampleClip, random: np.random.Generator) -> np.ndarray:
    """The sound: float32 [SECONDS * SAMPLE_RATE] in [-1, 1]."""
    count = round(SECONDS * SAMPLE_RATE)
    time = np.arange(count) / SAMPLE_RATE
    low = 300.0 * 2 ** (2 * list(COLOURS).index(clip.colour) / 7)  # 300 to 1200 Hz
    middle = 1500.0 * 2 ** (1.1 * SHAPES.index(clip.shape) / 7)  # 1500 to 3215 Hz
    high, loud = _high_voice(clip.motion, time)  # 3600 to 6800 Hz
    phases = random.uniform(0, 2 * math.pi, 3)
    sound = 0.30 * np.sin(2 * math.pi * low * time + phases[0])
    sound += 0.25 * np.sin(2 * math.pi * middle * time + phases[1])
    sound += 0.25 * loud * np.sin(2 * math.pi * np.cumsum(high) / SAMPLE_RATE + phases[2])
    sound *= random.uniform(0.7, 1.0)
    sound += random.normal(0, 0.003, count)
    fade = np.minimum(1, np.minimum(time, SECONDS - time) / 0.02)
    return (sound * fade).astype(np.float32)


def _high_voice(motion: str, time: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frequency (Hz) and loudness (0 to 1) of the voice that tells the motion."""
    share = time / SECONDS
    steady = np.ones_like(time)
    if motion == "left":
        return 3900 * steady, (time % 0.4 < 0.22).astype(float)
    if motion == "right":
        return 6500 * steady, (time % 0.2 < 0.11).astype(float)
    if motion == "up":
        return 3600 + 3200 * share, steady
    if motion == "down":
        return 6800 - 3200 * share, steady
    if motion == "bigger":
        return 4500 * steady, 0.1 + 0.9 * share
    if motion == "smaller":
        return 6000 * steady, 1.0 - 0.9 * share
    if motion == "round":
        return 5000 + 500 * np.sin(2 * math.pi * time / 1.6), steady
    return 5500 * steady, (time % 0.8 < 0.5).astype(float)


def write_video(
    path: str | os.PathLike,
    frames: np.ndarray,
    sound: np.ndarray | None,
    *,
    frame_rate: int = FRAME_RATE,
    sample_rate: int = SAMPLE_RATE,
) -> None:
    """Encodes an mp4: H.264 where the FFmpeg at hand can, else MPEG-4; AAC.

    Args:
        path: File to write.
        frames: uint8 [T, H, W, 3], even height and width.
        sound: float32 [N] mono in [-1, 1], or None.
        frame_rate: Frames per second.
        sample_rate: Samples per second.
    """
    import av

    h264 = "libx264" in av.codecs_available
    with av.open(os.fspath(path), "w", container_options={"fflags": "+bitexact"}) as container:
        options = {"crf": "20", "preset": "ultrafast"} if h264 else {"qscale": "3"}
        video = container.add_stream("libx264" if h264 else "mpeg4", frame_rate, options=options)
        video.height, video.width = frames.shape[1:3]
        video.pix_fmt = "yuv420p"
        video.codec_context.thread_count = 1
        audio = None
        if sound is not None:
            audio = container.add_stream("aac", sample_rate, layout="mono")
            audio.bit_rate = 64_000
        for image in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(video.encode(None))
        if audio is not None and sound is not None:
            for at in range(0, len(sound), 1024):
                block = av.AudioFrame.from_ndarray(
                    np.ascontiguousarray(sound[None, at : at + 1024]), format="fltp", layout="mono"
                )
                block.sample_rate, block.pts = sample_rate, at
                container.mux(audio.encode(block))
            container.mux(audio.encode(None))
