"""Starts and stops the embedded server."""

from __future__ import annotations

import dataclasses
import logging
import os
import resource
import time
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from vatt_tf import paths
from vatt_tf.errors import UserError
from vatt_tf.serving.server.batching import BatchedModel, BatchThreads
from vatt_tf.serving.server.grpc_service import GrpcServer
from vatt_tf.serving.server.models import config_files, model_config
from vatt_tf.serving.server.models.manager import LoadedModel, ModelManager
from vatt_tf.serving.server.models.options import BatchingOptions, ServerOptions
from vatt_tf.serving.server.models.servable import Servable
from vatt_tf.serving.server.models.status import Code, ServingError
from vatt_tf.serving.server.requests import warmup
from vatt_tf.serving.server.requests.handlers import Handlers
from vatt_tf.serving.server.requests.metrics import Metrics
from vatt_tf.serving.server.rest.service import RestServer

# Grace period of running requests when the server stops, in seconds.
SHUTDOWN_GRACE = 10.0
# Open files that are no connections: logs, libraries, models that are being loaded.
_OTHER_FILES = 224

logger = logging.getLogger(__name__)


class Server:
    """Running server; also a context manager that stops it.

    Attributes:
        port: Port of gRPC.
        rest_port: Port of REST, or None.
        manager: The models.
        metrics: The metrics.
    """

    def __init__(self, config: model_config.ModelServerConfig, options: ServerOptions) -> None:
        """Loads the models, then starts to listen; see :func:`start_server`."""
        self.metrics = Metrics()
        self._options = options
        self._batch_threads: BatchThreads | None = None
        if options.batching is not None:
            self._batch_threads = BatchThreads(options.batching.num_batch_threads)
        self.manager = ModelManager(
            self._load,
            poll_wait_seconds=options.file_system_poll_wait_seconds,
            max_load_retries=options.max_num_load_retries,
            load_retry_seconds=options.load_retry_interval_micros / 1e6,
            allow_labels_for_unavailable=options.allow_version_labels_for_unavailable_models,
        )
        self._grpc: GrpcServer | None = None
        self._rest: RestServer | None = None
        try:
            self.manager.apply_config(config)
            handlers = Handlers(self.manager, self.metrics, options)
            connections = _most_connections(options)
            self._grpc = GrpcServer(handlers, options, connections)
            if options.rest_port is not None:
                self._rest = RestServer(handlers, options, connections, grace=SHUTDOWN_GRACE)
        except BaseException:
            self.stop()
            raise

    @property
    def port(self) -> int:
        """Port of gRPC."""
        assert self._grpc is not None
        return self._grpc.port

    @property
    def rest_port(self) -> int | None:
        """Port of REST, or None."""
        return None if self._rest is None else self._rest.port

    def stop(self) -> None:
        """Refuses new requests, waits some seconds for running ones, then frees the models."""
        if self._grpc is not None:
            self._grpc.stop(SHUTDOWN_GRACE)
        if self._rest is not None:
            self._rest.stop()
        self.manager.stop()
        if self._batch_threads is not None:
            self._batch_threads.stop()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def _load(self, name: str, version: int, path: str) -> LoadedModel:
        """Loads a version, wraps it in batching and replays its warm-up requests."""
        model = self._read(name, version, path)
        try:
            batching = self._batching(path)
            if batching is not None and self._batch_threads is not None:
                model = BatchedModel(model, self._batch_threads, batching, self.metrics)
            if self._options.enable_model_warmup:
                self._warm_up(model, path)
        except BaseException:
            model.close()
            raise
        return model

    def _read(self, name: str, version: int, path: str) -> LoadedModel:
        started = time.perf_counter()
        status = "fail"
        try:
            model = Servable(
                name,
                version,
                path,
                tags=self._options.saved_model_tags,
                session_config=_session_config(self._options),
            )
            status = "success"
        finally:
            self.metrics.load_attempts.add(path, status)
            self.metrics.load_latency.add(path, by=int((time.perf_counter() - started) * 1e6))
        return model

    def _batching(self, path: str) -> BatchingOptions | None:
        """Batching options of a version: those of its own file, else the server's."""
        file = os.path.join(path, "batching_params.pbtxt")
        if not self._options.enable_per_model_batching_parameters or not os.path.exists(file):
            return self._options.batching
        try:
            return config_files.read_batching(file)
        except UserError as error:
            raise ServingError(Code.INVALID_ARGUMENT, str(error)) from error

    def _warm_up(self, model: LoadedModel, path: str) -> None:
        started = time.perf_counter()
        status = "OK"
        try:
            count = warmup.replay(model, path)
        except ServingError as error:
            count, status = 1, error.code.name
            raise
        finally:
            if count:
                self.metrics.warmup_latency.observe(
                    (time.perf_counter() - started) * 1e6, path, status
                )


def _most_connections(options: ServerOptions) -> int:
    """Connections of each port: the files of the process have to do for both and the models."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max((files - _OTHER_FILES) // 2, 8)
    if most < options.max_connections:
        logger.warning(
            "max_connections=%d: %d on each port, as this process may open %d files (ulimit -n)",
            options.max_connections,
            most,
            files,
        )
    return min(most, options.max_connections)


def _session_config(options: ServerOptions) -> tf.compat.v1.ConfigProto:
    parallelism = options.tensorflow_session_parallelism
    return tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=options.tensorflow_intra_op_parallelism or parallelism,
        inter_op_parallelism_threads=options.tensorflow_inter_op_parallelism or parallelism,
        allow_soft_placement=True,
    )


def start_server(
    models: str | os.PathLike | Mapping[str, str] | model_config.ModelServerConfig,
    options: ServerOptions | None = None,
    **changes: Any,
) -> Server:
    """Starts a server in this process and returns once it serves.

    Args:
        models: Export folder (every model in it is served), name -> base path, or a config.
        options: Options; by default those of :class:`ServerOptions` with free ports.
        **changes: Fields of the options to replace, e.g. ``port=8500``.

    Returns:
        The running server; call ``stop()`` or use it in a ``with`` statement.

    Raises:
        UserError: If the export folder has no model, or a port is in use.
        ServingError: If the config is wrong or a model does not load.
    """
    if options is None:
        options = ServerOptions(port=0, rest_port=0)
    options = dataclasses.replace(options, **changes)
    if isinstance(models, model_config.ModelServerConfig):
        config = models
    elif isinstance(models, Mapping):
        folders = {name: os.path.abspath(paths.expand(path)) for name, path in models.items()}
        config = model_config.models_config(folders)
    else:
        models = paths.expand(models)
        found = model_config.find_models(models) if os.path.isdir(models) else {}
        if not found:
            raise UserError(
                f"{models}: expected a folder of models (<name>/<version>/saved_model.pb), found "
                f"{'none in it' if os.path.isdir(models) else 'no such folder'}; "
                "write one with python -m vatt_tf.export"
            )
        config = model_config.models_config(found)
    try:
        return Server(config, options)
    except OSError as error:
        raise UserError(f"--port={options.port}: {error}; take another port") from error
