"""Builds the six folders of ``first_hour.py`` from real clips; NumPy and PyAV only."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import pathlib
import shutil
from collections.abc import Callable, Sequence
from fractions import Fraction

import av
import numpy as np

from vatt_tf.data import media
from vatt_tf.data.prepare.sample_videos import SAMPLE_RATE, write_video

CLIPS, SECONDS, PHONE_VIDEOS = 40, 600.0, 24
# A Japanese word for each choice of the first, second, third and fifth word of a sentence.
PLACES = {"bin": "東京", "lay": "大阪", "place": "公園", "set": "学校"}
ANIMALS = {"blue": "犬", "green": "猫", "red": "鳥", "white": "馬"}
SKIES = {"at": "雨", "by": "雪", "in": "朝日", "with": "夕焼け"}
NUMBERS = "zero one two three four five six seven eight nine".split()
DIGITS = dict(zip(NUMBERS, "零一二三四五六七八九", strict=True))


@dataclasses.dataclass(frozen=True)
class Sentence:
    """Clip of GRID and its sentence."""

    path: pathlib.Path
    caption: str
    start: float
    end: float


@dataclasses.dataclass(frozen=True)
class HourSet:
    """Test folder of videos like those of new users.

    Attributes:
        name: Name in the table.
        build: Writes the folder from the folder of real data. Returns the caption of each video,
            by file name; nothing where there is none.
        queries: Makes the word queries from those captions.
        by_example: Whether it has several videos for a search by example.
    """

    name: str
    build: Callable[[pathlib.Path, pathlib.Path, float], dict[str, str]]
    queries: Callable[[dict[str, str]], list[str]] = lambda captions: []
    by_example: bool = True


def sentences(data: pathlib.Path) -> list[Sentence]:
    """Lists the clips of GRID in an order that mixes the sentences.

    Raises:
        SystemExit: If they are not there.
    """
    table = data / "grid" / "manifest.csv"
    if not table.is_file():
        raise SystemExit(f"error: {table} is missing; give the folder of real data with --data")
    with open(table, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    order = np.random.default_rng(0).permutation(len(rows))
    return [
        Sentence(
            data / "grid" / rows[k]["clip"],
            rows[k]["caption"],
            float(rows[k]["start"]),
            float(rows[k]["end"]),
        )
        for k in order
    ]


def write_srt(path: pathlib.Path, start: float, end: float, text: str) -> None:
    """Writes a caption file of one cue."""
    times = " --> ".join(f"00:00:{second:06.3f}".replace(".", ",") for second in (start, end))
    path.write_text(f"1\n{times}\n{text}\n", encoding="utf-8")


def portion(count: int, size: float) -> int:
    """Scales a number of clips by the size, at least two."""
    return max(2, round(count * size))


def build_captionless(data: pathlib.Path, out: pathlib.Path, size: float) -> dict[str, str]:
    """Builds 40 clips without captions."""
    for sentence in sentences(data)[: portion(CLIPS, size)]:
        shutil.copy(sentence.path, out)
    return {}


def japanese(caption: str) -> str:
    """Japanese caption that varies with the sentence: 東京で犬が三匹、雪."""
    command, colour, preposition, _, digit, _ = caption.split()
    return f"{PLACES[command]}で{ANIMALS[colour]}が{DIGITS[digit]}匹、{SKIES[preposition]}の日"


def build_japanese(data: pathlib.Path, out: pathlib.Path, size: float) -> dict[str, str]:
    """Builds 40 clips with Japanese captions beside them."""
    captions = {}
    for sentence in sentences(data)[: portion(CLIPS, size)]:
        name = sentence.path.name
        shutil.copy(sentence.path, out)
        captions[name] = japanese(sentence.caption)
        write_srt((out / name).with_suffix(".srt"), sentence.start, sentence.end, captions[name])
    return captions


def japanese_queries(captions: dict[str, str]) -> list[str]:
    """Words of one and two characters that some caption holds."""
    words = [*PLACES.values(), *ANIMALS.values(), *DIGITS.values(), *SKIES.values()]
    return [w for w in words if len(w) <= 2 and any(w in text for text in captions.values())]


def build_phone(data: pathlib.Path, out: pathlib.Path, size: float) -> dict[str, str]:
    """Builds portrait videos, half of them stored on their side with a rotation, as by phones."""
    found = sentences(data)[: portion(PHONE_VIDEOS, size)]
    for number, sentence in enumerate(found):
        clip = media.read_clip(sentence.path, frame_rate=25.0, sample_rate=SAMPLE_RATE)
        height, width = clip.frames.shape[1:3]
        wide = height * 9 // 16 // 2 * 2
        left = (width - wide) // 2
        upright = clip.frames[:, :, left : left + wide]
        path = out / f"phone_{number:02d}.mp4"
        turned = number % 2 == 1
        frames = np.rot90(upright, 1, (1, 2)) if turned else upright
        plain = path.with_suffix(".tmp.mp4")
        write_video(plain, np.ascontiguousarray(frames), clip.waveform, frame_rate=25)
        # Frames that lie to the left are to be turned to the right.
        join([plain], path, rotation=-90 if turned else 0)
        plain.unlink()
    return {}


def build_long(data: pathlib.Path, out: pathlib.Path, size: float) -> dict[str, str]:
    """Builds one file of 10 minutes."""
    parts = [sentence.path for sentence in sentences(data)]
    lengths = itertools.accumulate(media.probe(path).duration for path in parts)
    wanted = SECONDS * size
    count = next(k for k, length in enumerate(lengths, 1) if length >= wanted or k == len(parts))
    join(parts[:count], out / "long.mp4")
    return {}


def join(parts: Sequence[pathlib.Path], path: pathlib.Path, rotation: int = 0) -> None:
    """Writes files of one encoding one after another, without encoding them anew.

    Args:
        parts: Files with the same streams.
        path: File to write.
        rotation: Degrees against the clock by which a player turns the frames.
    """
    with av.open(str(path), "w") as target:
        streams: dict[str, av.stream.Stream] = {}
        begin = Fraction(0)
        for part in parts:
            with av.open(str(part)) as source:
                for stream in source.streams:
                    if stream.type not in streams:
                        streams[stream.type] = target.add_stream_from_template(stream)
                        if stream.type == "video" and rotation:
                            streams[stream.type].set_display_rotation(rotation)
                end = begin
                for packet in source.demux():
                    # Skips flush packets, and priming packets of audio: the part before ends there.
                    if packet.dts is None or packet.pts is None or packet.pts < 0:
                        continue
                    base = packet.time_base
                    end = max(end, begin + (packet.pts + packet.duration) * base)
                    packet.pts += round(begin / base)
                    packet.dts += round(begin / base)
                    packet.stream = streams[packet.stream.type]
                    target.mux(packet)
            begin = end


def build_test_files(data: pathlib.Path, out: pathlib.Path, size: float) -> dict[str, str]:
    """Builds a folder of public test files: many codecs and sizes, some corrupt."""
    folder = data / "clips" / "files"
    if not folder.is_dir():
        raise SystemExit(f"error: {folder} is missing; give the folder of real data with --data")
    for path in sorted(folder.iterdir()):
        shutil.copy(path, out)
    return {}


def build_grid(data: pathlib.Path, out: pathlib.Path, size: float) -> dict[str, str]:
    """Builds GRID with its captions beside the files."""
    found = sentences(data)
    for sentence in found[: portion(len(found), size)]:
        target = out / sentence.path.name
        shutil.copy(sentence.path, target)
        write_srt(target.with_suffix(".srt"), sentence.start, sentence.end, sentence.caption)
    return {s.path.name: s.caption for s in found[: portion(len(found), size)]}


def three_words(captions: dict[str, str]) -> list[str]:
    """All distinct queries of three of the six words of a sentence."""
    triples = (
        " ".join(triple)
        for caption in captions.values()
        for triple in itertools.combinations(caption.split(), 3)
    )
    return sorted(set(triples))


SETS = {
    "a": HourSet("40 clips, no captions", build_captionless),
    "b": HourSet("40 clips, Japanese captions", build_japanese, japanese_queries),
    "c": HourSet("portrait phone videos", build_phone),
    "d": HourSet("one file of 10 minutes", build_long, by_example=False),
    "e": HourSet("files of public test suites", build_test_files),
    "f": HourSet("GRID with captions", build_grid, three_words),
}
