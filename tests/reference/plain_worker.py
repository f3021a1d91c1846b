"""Measures the plain reference beside the package; started by ``vatt_tf.benchmark``."""

import functools
import sys
from functools import partial

from vatt_tf import cli
from vatt_tf.benchmarking.protocol import serve


def main() -> int:
    flags = cli.ArgumentParser(prog="python -m tests.reference.plain_worker")
    cli.add_gin_flags(flags)
    flags.add_argument("--threads", type=int)
    cli.before_tensorflow()
    return cli.run(lambda: _serve(flags.parse_args()))


def _serve(flags) -> int:
    import tensorflow as tf

    from vatt_tf.benchmarking.batches import read_config

    if flags.threads:
        tf.config.threading.set_intra_op_parallelism_threads(flags.threads)
    worker = PlainWorker(read_config(flags.gin_file, flags.gin_bindings))
    return serve(worker.parts(), {"weights": worker.weights, "embed": worker.embed})


class PlainWorker:
    """Those parts of ``vatt_tf.benchmarking.worker.Worker`` that the way of writing decides."""

    def __init__(self, config) -> None:
        self.config = config
        self._path = ""

    def weights(self, path: str) -> dict:
        from tests.reference.plain_vatt import PlainVATT
        from vatt_tf.errors import UserError

        try:
            PlainVATT(self.config.model, {})
        except ValueError as error:
            raise UserError(f"--compare=reference: {error}") from error
        self._path = path
        return {}

    @functools.cached_property
    def plain(self):
        return self._model("")

    def _model(self, part: str):
        """The model, or the variables of a part of it."""
        import numpy as np

        from tests.reference.plain_vatt import PlainVATT

        with np.load(self._path) as file:
            weights = {path: file[path] for path in file.files if part in path}
        return PlainVATT(self.config.model, weights)

    def embed(self, path: str) -> dict:
        import numpy as np

        spaces = self.plain(self._batch(self.config.sizes(1)[1]))
        flat = {f"{s}/{m}": np.asarray(v) for s, part in spaces.items() for m, v in part.items()}
        np.savez(path, **flat)
        return {}

    def parts(self) -> dict:
        modalities = ("video", "audio", "text")
        return {
            **{f"forward/{name}": partial(self._forward, name) for name in modalities},
            **{f"train/{name}": partial(self._train, name) for name in modalities},
            # The tower alone, as it is exported.
            **{f"export/{name}": partial(self._forward, name, f"/{name}/") for name in modalities},
            "step": self._step,
            "input": self._input,
        }

    def _batch(self, rows: int) -> dict:
        from vatt_tf.benchmarking.batches import synthetic_batch

        batch = synthetic_batch(self.config, rows)
        return {name: batch[name] for name in ("video", "audio", "text")}

    def _tower(self, plain, modality: str, inputs, training: bool):
        import tensorflow as tf

        if modality == "text":
            inputs = tf.reshape(inputs, (-1, inputs.shape[-1]))
        return tf.reduce_sum(getattr(plain, modality)(inputs, training))

    def _forward(self, modality: str, part: str = ""):
        import tensorflow as tf

        plain = self._model(part) if part else self.plain
        inputs = self._batch(1)[modality]
        forward = tf.function(lambda: self._tower(plain, modality, inputs, False))
        return lambda: {"value": float(forward())}

    def _train(self, modality: str):
        import tensorflow as tf

        inputs = self._batch(self.config.sizes(1)[1])[modality]
        trained = self.plain.trainable_variables.items()
        variables = [value for path, value in trained if path.startswith(f"{modality}/")]

        @tf.function
        def train():
            with tf.GradientTape() as tape:
                target = self._tower(self.plain, modality, inputs, True)
            gradients = [tf.convert_to_tensor(g) for g in tape.gradient(target, variables)]
            return tf.add_n([tf.reduce_sum(gradient) for gradient in gradients])

        return lambda: {"value": float(train())}

    def _step(self):
        from tests.reference.plain_vatt import PlainStep

        step, batch = PlainStep(self.plain), self._batch(self.config.sizes(1)[0])
        return lambda: {"value": float(step(batch))}

    def _input(self):
        from tests.reference.plain_input import plain_dataset
        from vatt_tf.benchmarking.batches import noise_shard

        config = self.config
        shard, rows = noise_shard(config), config.sizes(1)[0]
        batches = iter(plain_dataset(shard, config.clip, config.augmentation, rows))

        def read() -> None:
            next(batches)

        return read


if __name__ == "__main__":
    sys.exit(main())
