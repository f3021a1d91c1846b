"""Measures one precision of a configuration; started by ``vatt_tf.benchmark``, not by hand."""

from __future__ import annotations

import argparse
import functools
import itertools
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from vatt_tf import cli, keras_imports
from vatt_tf.benchmarking.protocol import Part, serve
from vatt_tf.errors import UserError

# Side of the square matrices whose product is the machine's peak.
_PEAK_SIZE = 4096


def parser() -> argparse.ArgumentParser:
    """Builds the parser: the flags of ``vatt_tf.benchmark`` that select the measurement."""
    flags = cli.ArgumentParser(prog="python -m vatt_tf.benchmarking.worker")
    cli.add_gin_flags(flags)
    flags.add_argument("--precision", required=True)
    flags.add_argument("--threads", type=int)
    flags.add_argument("--data", action="store_true", help="read the configured data")
    return flags


class Worker:
    """Measurable parts of a run.

    Args:
        config: The run, with the precision that is measured.
        has_data: Whether its data are there; otherwise noise is made and read.
    """

    def __init__(self, config: Any, has_data: bool) -> None:
        import keras

        from vatt_tf.benchmarking.batches import synthetic_batch

        keras.utils.set_random_seed(config.seed)
        keras.config.set_dtype_policy(config.precision)
        self.config = config
        self._has_data = has_data
        self._model_built: Any = None
        self.batch_size, self.micro = config.sizes(1)
        self._batch: Callable[[int], dict[str, Any]] = lambda rows: synthetic_batch(config, rows)

    @property
    def model(self) -> Any:
        """Model, built at its first use."""
        if self._model_built is None:
            from vatt_tf.training.tasks.registry import build_model

            self._model_built = build_model(self.config)
            self._model_built.set_remat(self.config.remat)
        return self._model_built

    def parts(self) -> dict[str, Callable[[], Part]]:
        """Functions that build each measurable part, by name."""
        towers = self.config.model_config.towers
        return {
            "peak": self._peak,
            **{f"forward/{name}": functools.partial(self._forward, name) for name in towers},
            **{f"train/{name}": functools.partial(self._train, name) for name in towers},
            **{f"export/{name}": functools.partial(self._export, name) for name in towers},
            "step": lambda: self._steps(itertools.repeat(self._batch(self.batch_size))),
            "input": self._input,
            "run": lambda: self._steps(self._batches()),
        }

    def _peak(self) -> Part:
        """Builds a product of large matrices."""
        import tensorflow as tf

        kind = tf.bfloat16 if self.config.precision == "mixed_bfloat16" else tf.float32
        matrix = tf.cast(tf.random.stateless_normal([_PEAK_SIZE, _PEAK_SIZE], (1, 2)), kind)

        @tf.function(autograph=False)
        def product() -> Any:
            return tf.reduce_max(tf.matmul(matrix, matrix)[:1])

        return lambda: {"flops": 2 * _PEAK_SIZE**3, "value": float(product())}

    def _forward(self, modality: str) -> Part:
        """Features of one clip, all tokens."""
        import tensorflow as tf

        from vatt_tf.models.features import pooled_features

        tower = self.model.towers[modality]
        inputs = self._batch(1)[modality]

        @tf.function(autograph=False)
        def forward() -> Any:
            return tf.reduce_sum(tf.cast(pooled_features(tower, inputs, False), tf.float32))

        return lambda: {"value": float(forward())}

    def _export(self, modality: str) -> Part:
        """Builds a run of one clip through the exported tower."""
        import tensorflow as tf

        with tempfile.TemporaryDirectory() as folder:
            # In a process of its own: this one holds the exported tower alone, as a server does.
            process = multiprocessing.get_context("spawn").Process(
                target=_export, args=(self.config, modality, folder)
            )
            process.start()
            process.join()
            if process.exitcode:
                raise UserError(f"export/{modality}: the export ended with {process.exitcode}")
            saved = tf.saved_model.load(os.path.join(folder, "models", modality, "1"))
        call = saved.signatures["serving_default"]
        (name,) = call.structured_input_signature[1]
        inputs = self._batch(1)[modality]
        inputs = tf.squeeze(inputs, -1) if modality == "audio" else inputs

        def run() -> Mapping[str, Any]:
            answer = call(**{name: inputs})
            return {"value": float(tf.reduce_sum(answer["features"]))}

        # A reference, because the call holds its model weakly.
        return functools.partial(lambda _: run(), saved)

    def _train(self, modality: str) -> Part:
        """Forward and backward pass of one micro-batch."""
        import tensorflow as tf

        from vatt_tf.layers.fusion import fusion
        from vatt_tf.models.features import pooled_features
        from vatt_tf.training.gradients.compilation import compiler_of
        from vatt_tf.training.gradients.contrastive import dense

        tower = self.model.towers[modality]
        inputs = self._batch(self.micro)[modality]
        values = [variable.value for variable in tower.trainable_variables]

        @tf.function(autograph=False)
        def train() -> Any:
            with fusion(compiler_of(self.config.jit_compile)):
                with tf.GradientTape() as tape:
                    features = tf.cast(pooled_features(tower, inputs, True), tf.float32)
                    target = tf.reduce_sum(features)
                gradients = tape.gradient(target, values, unconnected_gradients="zero")
            return tf.add_n([tf.reduce_sum(dense(gradient)) for gradient in gradients])

        return lambda: {"value": float(train())}

    def _steps(self, batches: Iterator[Any]) -> Part:
        """A step of the run itself: loss, gradients, guards, update."""
        import tensorflow as tf

        from vatt_tf.training.optimization import optimizer, schedule
        from vatt_tf.training.tasks.registry import make_step
        from vatt_tf.training.trainer import Trainer

        config = self.config
        step = make_step(config, self.model, self.micro)
        updates = optimizer.optimizer(schedule.learning_rate(total_steps=config.steps))
        updates.build(step.variables)
        trainer = Trainer(
            strategy=tf.distribute.OneDeviceStrategy(_device()),
            model=self.model,
            optimizer=updates,
            step=step,
            global_step=tf.Variable(0, dtype=tf.int64),
            make_iterator=lambda start: batches,
            batch_size=self.batch_size,
            seed=config.seed,
            clip_norm=config.gradient_clip_norm,
        )

        def run() -> Mapping[str, Any]:
            metrics = trainer.train(1)
            return {"value": metrics["loss"], "waiting": metrics["input_wait_share"]}

        return run

    def _input(self) -> Part:
        """A batch of clips."""
        batches = self._batches()

        def read() -> None:
            next(batches)

        return read

    def _batches(self) -> Iterator[Any]:
        from vatt_tf.benchmarking.batches import configured_batches, noise_batches

        make = configured_batches if self._has_data else noise_batches
        return iter(make(self.config, self.batch_size))

    def weights(self, path: str) -> dict[str, Any]:
        """Writes the model's weights to an ``.npz`` file."""
        import numpy as np

        values: Any = {weight.path: np.asarray(weight.value) for weight in self.model.weights}
        np.savez(path, **values)
        return {}

    def embed(self, path: str) -> dict[str, Any]:
        """Writes the embeddings of the synthetic batch to an ``.npz`` file."""
        import numpy as np

        spaces = self.model(self._batch(self.micro))
        flat: Any = {
            f"{s}/{m}": np.asarray(v) for s, part in spaces.items() for m, v in part.items()
        }
        np.savez(path, **flat)
        return {}


def _export(config: Any, modality: str, folder: str) -> None:
    """Exports a tower of the run's model."""
    from vatt_tf.export import export_models
    from vatt_tf.models.io import save_description, save_weights

    save_description(folder, config.model_config, config.clip, None)
    save_weights(folder, Worker(config, False).model)
    export_models(folder, os.path.join(folder, "models"), models=[modality])


def _device() -> str:
    import tensorflow as tf

    return "/gpu:0" if tf.config.list_physical_devices("GPU") else "/cpu:0"


def main() -> int:
    """Entry point."""
    flags = parser().parse_args()
    cli.before_tensorflow()
    return cli.run(lambda: serve_worker(make_worker(flags)))


def make_worker(flags: argparse.Namespace) -> Worker:
    """The worker of a command line, see :func:`parser`."""
    import dataclasses

    keras_imports.import_lean("keras")
    import tensorflow as tf

    from vatt_tf.benchmarking.batches import read_config

    if flags.threads:
        tf.config.threading.set_intra_op_parallelism_threads(flags.threads)
    config = read_config(flags.gin_file, flags.gin_bindings)
    return Worker(dataclasses.replace(config, precision=flags.precision), flags.data)


def serve_worker(worker: Worker) -> int:
    """Serves its parts until standard input is closed; returns the exit code."""
    return serve(worker.parts(), {"weights": worker.weights, "embed": worker.embed})


if __name__ == "__main__":
    sys.exit(main())
