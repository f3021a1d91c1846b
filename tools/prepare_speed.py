"""Measures the seconds of video that `vatt_tf.prepare` processes per second of a core.

    python tools/prepare_speed.py [--minutes=10 | --video=FILE]

Without a file of your own: videos of two minutes, 320 x 240 H.264 at 25 frames a second with
sound, pictures that move and have grain. Counted are all seconds of processors that the command
takes, its start included (TensorFlow's: 4 to 5 s).
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import av
import numpy as np

from vatt_tf import cli
from vatt_tf.data.prepare import sample_videos

FRAME_RATE, SAMPLE_RATE, SECONDS = 25, 48_000, 120
HEIGHT, WIDTH = 240, 320


def write_moving_picture(path: pathlib.Path, seed: int) -> None:
    """Writes a video of drifting smooth noise with new grain in every frame."""
    generator = np.random.default_rng(seed)
    count = SECONDS * FRAME_RATE
    coarse = generator.integers(0, 256, (8, (WIDTH + count) // 16 + 1, 3))
    landscape = np.kron(coarse, np.ones((30, 16, 1)))
    for axis, size in ((0, 30), (1, 16)):
        kernel = np.ones(size) / size
        landscape = np.apply_along_axis(np.convolve, axis, landscape, kernel, mode="same")
    grain = generator.normal(0, 4, (16, HEIGHT, WIDTH, 1))
    frames = np.empty((count, HEIGHT, WIDTH, 3), np.uint8)
    for number in range(count):
        seen = landscape[:, number : number + WIDTH] + grain[number % len(grain)]
        frames[number] = np.clip(seen, 0, 255)
    sound = generator.normal(0, 0.1, SECONDS * SAMPLE_RATE).astype(np.float32)
    sample_videos.write_video(path, frames, sound, frame_rate=FRAME_RATE, sample_rate=SAMPLE_RATE)


def main() -> None:
    """Command line."""
    parser = cli.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=int, default=10, help="of video to make")
    parser.add_argument("--video", type=pathlib.Path, help="a video of your own")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        videos = pathlib.Path(folder) / "videos"
        videos.mkdir()
        if flags.video:
            shutil.copy(flags.video, videos)
        else:
            for number in range(max(1, 60 * flags.minutes // SECONDS)):
                write_moving_picture(videos / f"moving_{number}.mp4", number)
        seconds, size = 0.0, 0
        for video in videos.iterdir():
            size += video.stat().st_size
            with av.open(str(video)) as container:
                assert container.duration is not None
                seconds += container.duration / av.time_base
                codec = container.streams.video[0].codec_context
                kind = f"{codec.name} {codec.width} x {codec.height}"
        command = [sys.executable, "-m", "vatt_tf.prepare", f"--videos={videos}", "--jobs=1"]
        start, before = time.perf_counter(), os.times()
        subprocess.run([*command, f"--out={folder}/shards"], check=True, stdout=subprocess.DEVNULL)
        wall, after = time.perf_counter() - start, os.times()
    used = after.children_user + after.children_system
    used -= before.children_user + before.children_system
    print(
        f"{seconds:.0f} s of {kind}, {8e-3 * size / seconds:.0f} kbit/s: {used:.1f} s of a core "
        f"({seconds / used:.0f} times real time per core), {wall:.1f} s by the clock"
    )


if __name__ == "__main__":
    main()
