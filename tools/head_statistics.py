"""Table of the statistics of the heads' BatchNorm: of the rows that are there, or of all rows.

    python tools/head_statistics.py --videos=narrated_digits

Trains narrow perceptrons on a frame, the log-mel sound and the caption of each clip, with the head
``shared``, whose three branches have BatchNorm. Prints means and standard deviations over seeds of
the held-out clips (percent) whose first hit has their class.
"""

from __future__ import annotations

import csv
import pathlib
from typing import Any

import experiments
import keras
import numpy as np
import tensorflow as tf

from vatt_tf import cli
from vatt_tf.data.input.audio_ops import log_mel
from vatt_tf.data.media.clips import read_clip
from vatt_tf.data.media.windows import fit_frames
from vatt_tf.data.schema import ClipSpec
from vatt_tf.evaluation.metrics.retrieval import class_metrics
from vatt_tf.heads.config import HeadConfig
from vatt_tf.losses.objective import ObjectiveConfig, objective
from vatt_tf.unit_length import l2_normalize

SPEC = ClipSpec(
    audio="log_mel",
    samples=16_000,
    sample_rate=16_000,
    stft_window=1024,
    stft_step=500,
    mel_bins=40,
)
# Captions of a clip, of which it has one; share of the training clips that lack sound, captions.
SETTINGS = {
    "1 text, no clip lacks anything": (1, 0.0, 0.0),
    "5 texts, no clip lacks anything": (5, 0.0, 0.0),
    "1 text, 1 of 3 without sound, 1 of 2 without": (1, 1 / 3, 1 / 2),
    "5 texts, 1 of 3 without sound, 1 of 2 without": (5, 1 / 3, 1 / 2),
}
ASKED = (("audio", "video"), ("video", "audio"), ("video", "text"))


def read(videos: pathlib.Path) -> dict[str, dict[str, np.ndarray]]:
    """Inputs and classes of the splits: ``video``, ``audio`` float32 [n, d], ``label`` int [n]."""
    rows = list(csv.DictReader(open(videos / "manifest.csv", encoding="utf-8")))
    names = sorted({row["label"] for row in rows})
    found: dict[str, dict[str, list[Any]]] = {}
    for row in rows:
        clip = read_clip(videos / row["path"], frame_rate=1.0, sample_rate=16_000)
        part = found.setdefault(row["split"], {"video": [], "audio": [], "label": []})
        part["video"].append(fit_frames(clip.frames[:1], (32, 32)).ravel() / 127.5 - 1.0)
        sound = np.zeros(0) if clip.waveform is None else clip.waveform
        part["audio"].append(np.append(sound, np.zeros(16_000))[:16_000])
        part["label"].append(names.index(row["label"]))
    arrays = {split: {m: np.array(x) for m, x in part.items()} for split, part in found.items()}
    for inputs in arrays.values():
        sounds = log_mel(tf.constant(inputs["audio"], tf.float32), SPEC)
        inputs["audio"] = sounds.numpy().reshape(len(sounds), -1)
    return arrays


def precision(
    data: dict, masked: bool, texts: int, silent: float, wordless: float, seed: int, steps: int
) -> experiments.Row:
    """Trains and measures one model."""
    keras.utils.set_random_seed(seed)
    rng, train, val = np.random.default_rng(seed), data["train"], data["val"]
    count = len(train["label"])
    there = {"video": np.ones(count), "audio": rng.random(count) >= silent}
    # Word 0 is padding: a clip has one caption at most.
    words = np.zeros((count, texts), int)
    words[:, 0] = (train["label"] + 1) * (rng.random(count) >= wordless)
    towers = {
        m: keras.Sequential([keras.layers.Dense(256, "relu"), keras.layers.Dense(128)])
        for m in ("video", "audio")
    }
    towers["text"] = keras.Sequential([keras.layers.Embedding(11, 128)])
    head = HeadConfig("shared", vat_dim=128).build()
    config, optimizer = ObjectiveConfig(), keras.optimizers.AdamW(1e-3, weight_decay=0.05)

    def embed(inputs: dict, masks: Any = None, training: bool = False) -> dict:
        features = {m: towers[m](x) for m, x in inputs.items()}
        return head(features, training=training, masks=masks)

    @tf.function
    def step(inputs: dict, masks: dict) -> None:
        with tf.GradientTape() as tape:
            spaces = embed(inputs, masks if masked else None, training=True)
            loss = objective(spaces, spaces, masks, masks, config)[0]
        layers = (*towers.values(), head)
        variables = [variable for layer in layers for variable in layer.trainable_variables]
        optimizer.apply(tape.gradient(loss, variables), variables)

    for layer, width in ((towers["video"], 3072), (towers["audio"], 1280)):
        layer.build((None, width))
    towers["text"].build((None, texts))
    head.build({m: (None, 128) for m in towers})
    optimizer.build([v for part in (*towers.values(), head) for v in part.trainable_variables])
    for _ in range(steps):
        rows = rng.choice(count, 64, replace=False)
        masks = {m: mask[rows].astype("float32") for m, mask in there.items()}
        masks["text"] = (words[rows] > 0).astype("float32")
        inputs = {m: np.float32(train[m][rows] * masks[m][:, None]) for m in ("video", "audio")}
        step({**inputs, "text": words[rows]}, masks)
    inputs = {m: val[m].astype("float32") for m in ("video", "audio")}
    (spaces,) = embed({**inputs, "text": np.arange(1, 11)[:, None]}).values()
    unit = {m: l2_normalize(np.asarray(x).reshape(len(x), -1)) for m, x in spaces.items()}
    labels = {"video": val["label"], "audio": val["label"], "text": np.arange(10)}
    return {
        f"{a} -> {b}": 100 * class_metrics(unit[a], unit[b], labels[a], labels[b])["precision@1"]
        for a, b in ASKED
    }


def main() -> None:
    """Trains all and prints the table."""
    parser = cli.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=pathlib.Path, required=True, help="narrated_digits")
    parser.add_argument("--seeds", type=int, default=3, help="models of each row")
    parser.add_argument("--steps", type=int, default=400, help="steps of a training")
    flags = parser.parse_args()
    data = read(flags.videos)
    names = [f"{a} -> {b}" for a, b in ASKED]
    print(experiments.head(["captions", "statistics of", *names]))
    for name, setting in SETTINGS.items():
        for masked, what in ((True, "rows that are there"), (False, "all rows")):
            rows = [precision(data, masked, *setting, s, flags.steps) for s in range(flags.seeds)]
            cells = [experiments.over_seeds(rows, metric) for metric in names]
            print(f"| {name} | {what} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
