"""Checks before the first step that all workers have the same code, data and configuration."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf

import vatt_tf
from vatt_tf import config as gin_config
from vatt_tf.data.shards.index import list_shards
from vatt_tf.errors import UserError
from vatt_tf.models.io import CHECKPOINTS, newest_checkpoint
from vatt_tf.training.tasks.config import RunConfig
from vatt_tf.wording import count_of

_SHOWN = 5


def fingerprints(config: RunConfig, run_dir: str, stop_at_step: int | None) -> dict[str, str]:
    """Name -> value of everything that has to be equal on all workers.

    That is every binding (also when to save and to evaluate: all do it together), every source
    file of the package (by its digest), the versions of TensorFlow and Keras, the shards of every
    source (names and sizes), and the checkpoint that the run continues from, which shows
    whether the run directory is shared.
    """
    found = gin_config.bindings_in(gin_config.config_text())
    found["--stop_at_step"] = str(stop_at_step)
    package = pathlib.Path(vatt_tf.__file__).parent
    for path in sorted(package.rglob("*.py")):
        found[f"code of {path.relative_to(package.parent)}"] = _digest(path.read_bytes())
    found["version of TensorFlow"] = tf.__version__
    found["version of Keras"] = keras.__version__
    for source in config.data:
        files = list_shards(source.path)
        sizes = {file.rsplit("/", 1)[-1]: tf.io.gfile.stat(file).length for file in files}
        text = json.dumps(sizes, sort_keys=True).encode()
        found[f"shards in {source.path}"] = (
            f"{count_of(len(files), 'file')}, {sum(sizes.values())} bytes, digest {_digest(text)}"
        )
    newest = newest_checkpoint(os.path.join(run_dir, CHECKPOINTS))
    found[f"newest checkpoint in {run_dir}"] = os.path.basename(newest or "none")
    return found


def check_workers(strategy: tf.distribute.Strategy, values: Mapping[str, str]) -> None:
    """Compares ``values`` with those of worker 0; does nothing with a single worker.

    Args:
        strategy: Strategy of the run.
        values: See :func:`fingerprints`.

    Raises:
        UserError: On every worker, if they differ: names the worker and what differs.
    """
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return
    text = np.frombuffer(json.dumps(values).encode(), np.uint8).astype(np.int32)
    lengths = _gather(strategy, np.array([text.size], np.int32))
    padded = np.pad(text, (0, lengths.max() - text.size))
    texts = _gather(strategy, padded[None])
    workers = [
        json.loads(row[:length].astype(np.uint8).tobytes())
        for row, length in zip(texts, lengths, strict=True)
    ]
    different = {index: _differences(workers[0], other) for index, other in enumerate(workers)}
    lines = [f"worker {index}: {text}" for index, text in different.items() if text]
    if lines:
        raise UserError(
            f"the workers do not run the same thing. {'. '.join(lines)}. Give all the same code, "
            "configuration, versions, data and folder of the run"
        )


def _gather(strategy: tf.distribute.Strategy, rows: np.ndarray) -> np.ndarray:
    """All-gathers a row per worker: ``[workers, ...]``."""

    def on_replica() -> tf.Tensor:
        return tf.distribute.get_replica_context().all_gather(tf.identity(rows), axis=0)

    result = tf.function(lambda: strategy.run(on_replica), autograph=False)()
    gathered = strategy.experimental_local_results(result)[0].numpy()
    cluster = strategy.cluster_resolver.cluster_spec()
    workers = sum(cluster.num_tasks(job) for job in cluster.jobs)
    return gathered[:: strategy.num_replicas_in_sync // workers]  # a worker's replicas agree


def _differences(first: Mapping[str, str], other: Mapping[str, str]) -> str:
    missing = "not there"
    found = [
        f"{name} is {other.get(name, missing)}, on worker 0 {first.get(name, missing)}"
        for name in sorted(first.keys() | other.keys())
        if first.get(name) != other.get(name)
    ]
    more = f"; {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return "; ".join(found[:_SHOWN]) + more


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]
