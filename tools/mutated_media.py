"""Reads mutated media files as `prepare` and `embed` do, in processes that are killed if they hang.

    python tools/mutated_media.py --files=2000 FOLDER [FOLDER ...]

Files of the folders are mutated (bytes, cuts, holes, doubled and swapped stretches, numbers of
headers, two files joined), 50 a process. Of each are measured: seconds of a core, clips, and how
many clips there is room for: (decoded seconds / clip length + 1). The seconds are counted by PyAV
alone, with the frame rate of the file that it was made of and pauses of up to 10 s. The same seed
makes the same files.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import pathlib
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import av

from vatt_tf import cli
from vatt_tf.benchmarking.memory import process_peak

ROOT = pathlib.Path(__file__).resolve().parent.parent
A_PROCESS = 50  # files
MOST_SECONDS = 60.0  # by the clock, for a file on a busy machine
CLIP_SECONDS = 2.0
GAP_SECONDS = 10.0  # pauses that are kept (docs/preparing_data.md, What is stored)


def mutate(data: bytes, other: bytes, generator: random.Random) -> bytes:
    """A mutated copy of the bytes of a file, some of them joined with those of another."""
    found = bytearray(data)
    size = len(found)
    for _ in range(generator.choice((1, 1, 2, 4))):
        first = generator.randrange(size)
        # Headers and indexes stand at the ends: half of the changes are made there.
        near = generator.randrange(min(4096, size))
        at = generator.choice((first, first, near, size - 1 - near))
        at = max(0, min(at, len(found) - 1))
        length = min(generator.choice((1, 16, 512, 8192, 65536)), max(1, len(found) // 3))
        kind = generator.randrange(9)
        if kind == 0:
            for place in generator.choices(range(len(found)), k=generator.choice((1, 8, 64))):
                found[place] = generator.randrange(256)
        elif kind == 1:
            del found[max(16, at) :]
        elif kind == 2:
            del found[at : at + length]
        elif kind == 3:
            found[at:at] = found[max(0, at - length) : at]
        elif kind == 4:
            found[at : at + length] = bytes(min(length, len(found) - at))
        elif kind == 5:
            found[at : at + length] = generator.randbytes(min(length, len(found) - at))
        elif kind == 6:
            number = generator.choice((0, 1, 2**31 - 1, 2**32 - 1, generator.getrandbits(32)))
            found[at : at + 4] = number.to_bytes(4, generator.choice(("big", "little")))
        elif kind == 7:
            half = len(found) // 2
            found[at : at + length], found[half : half + length] = (
                found[half : half + length],
                found[at : at + length],
            )
        else:
            found += generator.choice((data, other))
    return bytes(found)


def sources(folders: list[pathlib.Path]) -> list[pathlib.Path]:
    """Media files of some folders, in order."""
    from vatt_tf.data.media.scan import MEDIA_SUFFIXES

    wanted = MEDIA_SUFFIXES["video"]
    return [f for folder in folders for f in sorted(folder.iterdir()) if f.suffix in wanted]


@functools.cache
def rate_of(path: pathlib.Path) -> tuple[str, float]:
    """Whether a file has frames or sound alone, and how many frames or samples a second it has."""
    with av.open(str(path)) as file:
        if not file.streams.video:
            return "audio", float(file.streams.audio[0].rate)
        times = []
        for packet in file.demux(video=0):
            with contextlib.suppress(av.error.FFmpegError):
                times += [frame.time for frame in packet.decode() if frame.time is not None]
    return "video", (len(times) - 1) / (max(times) - min(times)) if len(times) > 1 else 25.0


def decoded_seconds(path: pathlib.Path, kind: str, rate: float) -> float:
    """Seconds that PyAV decodes of the longest stream, with the pauses that are kept."""
    most, index, count = 0.0, 0, 1
    while index < count:
        seconds, last = 0.0, math.nan
        with contextlib.suppress(av.error.FFmpegError, OSError, ValueError, IndexError):
            with av.open(str(path), metadata_errors="replace") as file:
                count = len(file.streams)
                stream = file.streams[index]
                if stream.type == kind and stream.codec_context is not None:
                    stream.codec_context.thread_count = 1
                    for packet in file.demux(stream):
                        with contextlib.suppress(av.error.FFmpegError, ValueError):
                            frames: Any = packet.decode()
                            for frame in frames:
                                own = (1 if kind == "video" else frame.samples) / rate
                                at = math.nan if frame.time is None else frame.time
                                pause = at - last
                                seconds += pause if own < pause <= GAP_SECONDS else own
                                last = at
        most, index = max(most, seconds), index + 1
    return most


def read(path: pathlib.Path, kind: str) -> dict[str, Any]:
    """Reads a file as both commands do: seconds, clips, reasons."""
    from vatt_tf.data.prepare.cutting import VideoClips
    from vatt_tf.data.prepare.plan import Settings, Video
    from vatt_tf.data.schema import ClipSpec
    from vatt_tf.search_index import embedding

    settings = Settings(short_side=64, clip_seconds=CLIP_SECONDS, media=kind)
    began = time.process_time()
    size = path.stat().st_size
    clips = VideoClips(Video(path.name, str(path), "train", size, 0, []), settings, len)
    count = sum(1 for _ in clips)
    middle = time.process_time()
    windows, reason = 0, ""
    if kind == "video":
        file = embedding.VideoFile(path.name, path, size, 0)
        clip = ClipSpec(frames=8, height=64, width=64, frame_rate=8 / CLIP_SECONDS)
        for item in embedding.read_windows([file], clip, CLIP_SECONDS, CLIP_SECONDS):
            windows += isinstance(item, embedding.Window)
            reason = getattr(item, "reason", "")
    return {
        "prepare": middle - began,
        "embed": time.process_time() - middle,
        "clips": count,
        "windows": windows,
        "told": bool(clips.quarantine or clips.warnings),
        "reason": (clips.quarantine or [reason])[0],
        "jumps": any("jump" in note for note in clips.warnings),
    }


def work(folders: list[pathlib.Path], seed: int, count: int) -> None:
    """Makes and reads files of a seed; prints a line of JSON for each."""
    files = sources(folders)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(seed, seed + count):
            generator = random.Random(number)
            source, other = generator.choice(files), generator.choice(files)
            path = pathlib.Path(folder) / f"{number}{source.suffix}"
            path.write_bytes(mutate(source.read_bytes(), other.read_bytes(), generator))
            print(json.dumps({"file": f"{number}: {source.name}"}), flush=True)
            kind, rate = rate_of(source)
            found = read(path, kind)
            if other.suffix == source.suffix and rate_of(other)[0] == kind:
                rate = min(rate, rate_of(other)[1])
            # FFmpeg ends at a header inside of an FLV file, where joined ones go on.
            parts = max(1, path.read_bytes().count(b"FLV\x01")) if path.suffix == ".flv" else 1
            seconds = parts * decoded_seconds(path, kind, rate)
            memory = process_peak() / 2**20
            found |= {"room": seconds / CLIP_SECONDS + 1, "memory": memory}
            print(json.dumps(found), flush=True)
            path.unlink()


def run(folders: list[pathlib.Path], seed: int, count: int) -> Iterator[dict[str, Any]]:
    """Yields what was measured of each file; "hangs" where its process had to be killed."""
    while count > 0:
        number = min(count, A_PROCESS)
        command = [sys.executable, __file__, "--work", f"--seed={seed}", f"--files={number}"]
        try:
            done = subprocess.run(
                [*command, *map(str, folders)],
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=number * MOST_SECONDS,
            )
            lines, dead = done.stdout.splitlines(), done.returncode and done.stderr[-2000:]
        except subprocess.TimeoutExpired as error:
            lines, dead = (error.stdout or b"").decode().splitlines(), "hangs"
        entries = [json.loads(line) for line in lines]
        for name, found in zip(entries[::2], entries[1::2], strict=False):
            yield name | found
        finished = len(entries) // 2
        if dead:
            yield {**(entries[-1] if entries else {}), "dead": dead}
            finished += 1
        seed, count = seed + finished, count - finished


def main() -> None:
    """Command line."""
    parser = cli.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="+", type=pathlib.Path, help="folders of media files")
    parser.add_argument("--files", type=int, default=200, help="files to make")
    parser.add_argument("--seed", type=int, default=0, help="of the first file")
    parser.add_argument("--work", action="store_true", help="be the process that reads")
    flags = parser.parse_args()
    folders = [folder.resolve() for folder in flags.folders]
    if flags.work:
        return work(folders, flags.seed, flags.files)
    every = list(run(folders, flags.seed, flags.files))
    for entry in every:
        if "dead" in entry or max(entry["clips"], entry["windows"]) > entry["room"]:
            print(entry)
    read_ones = [entry for entry in every if "dead" not in entry]
    slowest = [max(entry[name] for entry in read_ones) for name in ("prepare", "embed")]
    print(
        f"{len(every)} files: {len(every) - len(read_ones)} hang or crash; "
        f"{sum(bool(e['clips']) for e in read_ones)} give clips, "
        f"{sum(e['told'] for e in read_ones)} a reason or a warning, "
        f"{sum(not e['clips'] and not e['told'] for e in read_ones)} neither; "
        f"{sum(e['jumps'] for e in read_ones)} with jumps of the clock; "
        f"{sum(max(e['clips'], e['windows']) > e['room'] for e in read_ones)} with more clips than "
        f"they have room for; {slowest[0]:.1f} s of a core (prepare) and {slowest[1]:.1f} s "
        f"(embed) at most; {max(e['memory'] for e in read_ones):.0f} MiB at most"
    )


if __name__ == "__main__":
    main()
