"""Distribution strategies: one code path from one CPU to several hosts."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

import tensorflow as tf

from vatt_tf.errors import UserError
from vatt_tf.training.cluster.workers import EXAMPLE, workers_in_environment

NAMES = ("auto", "one_device", "mirrored", "multi_worker", "tpu")


def create_strategy(name: str = "auto", tpu: str | None = None) -> tf.distribute.Strategy:
    """Builds the strategy; ``"auto"`` chooses by the devices and the environment.

    ``auto``: a TPU if ``tpu`` is given; several hosts if ``TF_CONFIG`` names more than one worker;
    all GPUs if there are several; else one device.

    Args:
        name: One of ``NAMES``.
        tpu: Name or address of a Cloud TPU, or ``"local"``.

    Raises:
        UserError: If the strategy is unknown or what it needs is not there.
    """
    if name not in NAMES:
        raise UserError(f"--strategy={name}: expected one of {', '.join(NAMES)}")
    if name == "auto":
        name = _choose(tpu)
    if name == "tpu":
        return _tpu(tpu)
    if name == "multi_worker":
        if not workers_in_environment()[0]:
            raise UserError(
                "--strategy=multi_worker: nothing names the workers: give --worker_hosts and "
                f"--worker_index, or set the environment variable TF_CONFIG, e.g. {EXAMPLE}"
            )
        return _multi_worker()
    if name == "mirrored":
        # Logical CPUs count too, so that replicas can be tried out without a GPU.
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    gpu = tf.config.list_logical_devices("GPU")
    return tf.distribute.OneDeviceStrategy("/gpu:0" if gpu else "/cpu:0")


def _choose(tpu: str | None) -> str:
    if tpu:
        return "tpu"
    if len(workers_in_environment()[0]) > 1:
        return "multi_worker"
    return "mirrored" if len(tf.config.list_physical_devices("GPU")) > 1 else "one_device"


def _multi_worker() -> tf.distribute.Strategy:
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    # TensorFlow's runtime has taken SIGTERM for itself and does nothing on it.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
    return strategy


def _tpu(tpu: str | None) -> tf.distribute.Strategy:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=tpu or "local")
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, OSError, ImportError, tf.errors.OpError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"--tpu={tpu or 'local'}: no TPU answers there ({reason}); expected the name of a "
            "Cloud TPU, its grpc://HOST:PORT, or 'local' on the TPU's own machine"
        ) from error
    return tf.distribute.TPUStrategy(resolver)


def gather_function(replicas: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns an all-gather of rows over the replicas, in replica order; differentiable.

    The gradient of a gathered row is the sum of its gradients on all replicas.
    """
    if replicas == 1:
        return tf.identity

    def gather(rows: tf.Tensor) -> tf.Tensor:
        # Between workers all_gather needs a tensor with a device; inputs of a graph have none.
        rows = tf.identity(rows)
        gathered = tf.distribute.get_replica_context().all_gather(rows, axis=0)
        return tf.ensure_shape(gathered, (replicas * rows.shape[0], *rows.shape[1:]))

    return gather


def wait_for_workers(strategy: tf.distribute.Strategy) -> None:
    """Blocks until every worker is here: one that leaves early looks crashed to the others."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return

    def count() -> tf.Tensor:
        context = tf.distribute.get_replica_context()
        return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(1.0))

    tf.function(lambda: strategy.run(count), autograph=False)()


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes the run's files (worker 0, or the only process)."""
    resolver = strategy.cluster_resolver
    if resolver is None or not getattr(resolver, "task_type", None):
        return True
    return resolver.task_type in ("chief", None) or (
        resolver.task_type == "worker"
        and resolver.task_id == 0
        and "chief" not in resolver.cluster_spec().jobs
    )


def own_folder(run_dir: str, strategy: tf.distribute.Strategy) -> str:
    """Folder of this process's files: the run directory, on other workers one inside of it."""
    if is_chief(strategy):
        return run_dir
    return os.path.join(run_dir, f".worker-{strategy.cluster_resolver.task_id or 0}")
