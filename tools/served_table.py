"""Parity table: every design exported, served, and loaded in a Keras app.

    python tools/served_table.py runs/design/narrated_digits/*_steps/*_0/run

For each run: ``vatt_tf.export``; ``vatt_tf.serving`` in a process of its own, asked over gRPC;
``keras.layers.TFSMLayer`` of each SavedModel. Prints by how much their embeddings of the same
clips, sounds and sentences differ from those of the trained model, and the seconds of an export.
"""

from __future__ import annotations

import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import Any

import experiments
import numpy as np

from vatt_tf import cli

INPUTS = {"video": "frames", "audio": "waveform", "text": "text"}
Embeddings = dict[str, dict[str, np.ndarray]]


def embeddings(embedder: Any, inputs: Mapping[str, Any], sample_rate: int) -> Embeddings:
    """Embeddings by modality and space, of a trained model or of a client."""
    found = {}
    for name, values in inputs.items():
        options = {"sample_rate": sample_rate} if name == "audio" else {}
        found[name] = getattr(embedder, f"embed_{name}")(values, space="all", **options)
    return found


def in_keras(models: pathlib.Path, inputs: Mapping[str, Any], spaces: Embeddings) -> Embeddings:
    """Embeddings from Keras layers of the SavedModels."""
    import keras
    import tensorflow as tf

    found = {}
    for name, values in inputs.items():
        (folder,) = (models / name).glob("[0-9]*")
        layer = keras.layers.TFSMLayer(str(folder), call_endpoint="serving_default")
        shape = np.shape(values)[1:]
        dtype = "string" if name == "text" else values.dtype.name
        source = keras.Input(shape, dtype=dtype)
        answers = keras.Model(source, layer(source))(tf.constant(values))
        one = len(spaces[name]) == 1
        found[name] = {
            space: answers["embedding" if one else f"embedding_{space}"].numpy()
            for space in spaces[name]
        }
    return found


def difference(first: Embeddings, second: Embeddings) -> float:
    """Largest difference of two sets of embeddings."""
    return max(
        float(np.abs(first[name][space] - second[name][space]).max())
        for name in first
        for space in first[name]
    )


def measured(run: str, models: pathlib.Path) -> dict[str, float]:
    """Measures seconds of the export and differences from the trained model."""
    import vatt_tf
    from vatt_tf.export import examples
    from vatt_tf.serving.benchmarks.tools import ServerProcess
    from vatt_tf.serving.client.client import Client

    start = time.perf_counter()
    command = [sys.executable, "-m", "vatt_tf.export", f"--run_dir={run}", f"--out={models}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    row = {"export": time.perf_counter() - start}
    trained = vatt_tf.load(run)
    inputs: dict[str, Any] = {
        name: examples.request(alias, trained.clip, 4)
        for name, alias in INPUTS.items()
        if (models / name).exists()
    }
    inputs["text"] = [text.decode() for text in inputs["text"]]
    rate = trained.clip.sample_rate
    expected = embeddings(trained, inputs, rate)
    start = time.perf_counter()
    with ServerProcess(models) as server, Client(server.address) as client:
        row["start of the server"] = time.perf_counter() - start
        row["over gRPC"] = difference(expected, embeddings(client, inputs, rate))
    row["in a Keras app"] = difference(expected, in_keras(models, inputs, expected))
    return row


def main() -> None:
    """Prints a line for each run."""
    parser = cli.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", help="run directories")
    flags = parser.parse_args()
    cli.before_tensorflow()
    columns = ["run", "export", "start of the server", "over gRPC", "in a Keras app"]
    print(experiments.head(columns), flush=True)
    for run in flags.runs:
        with tempfile.TemporaryDirectory() as folder:
            row = measured(run, pathlib.Path(folder))
        name = pathlib.Path(run)
        cells = [f"{row['export']:.0f} s", f"{row['start of the server']:.0f} s"]
        cells += [f"{row['over gRPC']:.1e}", f"{row['in a Keras app']:.1e}"]
        shown = name.parent.name if name.name == "run" else name.name
        print(f"| {shown} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
