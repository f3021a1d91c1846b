"""Options of the embedded server: names and defaults of tensorflow_model_server's flags."""

from __future__ import annotations

import dataclasses
import os

CORES = os.cpu_count() or 1


@dataclasses.dataclass(frozen=True)
class BatchingOptions:
    """Options of dynamic batching.

    Attributes:
        max_batch_size: Rows of the largest batch; a request with more is refused.
        batch_timeout_micros: How long a batch that is not full waits for more rows.
        max_enqueued_batches: Batches that may wait per signature; more requests are refused.
        num_batch_threads: Batches that run at a time.
        allowed_batch_sizes: Sizes that a batch is padded to, ascending; the last one is
            ``max_batch_size``. Empty: no padding.
        pad_variable_length_inputs: Pad inputs of different lengths instead of not joining them.
        thread_pool_name: Label of the batching metrics.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = CORES
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    thread_pool_name: str = "batch_threads"


@dataclasses.dataclass(frozen=True)
class TlsOptions:
    """Key and certificates of a server, in PEM.

    Attributes:
        key: Its private key.
        certificate: Its certificate, with those between it and the authority.
        client_ca: Authority of the clients' certificates.
        client_verify: Refuse clients without a certificate of that authority.
    """

    key: bytes
    certificate: bytes
    client_ca: bytes | None = None
    client_verify: bool = False


@dataclasses.dataclass(frozen=True)
class ServerOptions:
    """Options of a server; 0 as a port takes a free one.

    Attributes:
        port: Port of gRPC.
        rest_port: Port of REST and metrics; None: neither.
        host: Address to listen on; the server asks nobody who he is.
        file_system_poll_wait_seconds: Seconds between two scans of the model folders; 0: scan at
            start and after a reload of the config only.
        max_num_load_retries: Attempts after the first, before a version is given up.
        load_retry_interval_micros: Pause between two attempts.
        allow_version_labels_for_unavailable_models: New labels may point to versions that are not
            loaded; needed for labels in the config that a server starts with.
        saved_model_tags: Tags of the graph to load.
        enable_model_warmup: Replay assets.extra/tf_serving_warmup_requests before a version is
            available.
        batching: Batching for all models; None: off.
        enable_per_model_batching_parameters: Read batching_params.pbtxt in the version folders.
        grpc_max_threads: gRPC calls answered at a time; more get RESOURCE_EXHAUSTED.
        rest_api_num_threads: REST calls answered at a time; more wait.
        rest_api_timeout_in_ms: Time limit of a REST call.
        tensorflow_session_parallelism: Threads of TensorFlow, within and between ops; 0: it
            decides.
        tensorflow_intra_op_parallelism: Threads within an op, instead.
        tensorflow_inter_op_parallelism: Threads between ops, instead.
        enable_grpc_healthcheck_service: Answer grpc.health.v1.
        enable_serialization_as_tensor_content: Predict replies carry ``tensor_content``.
        metrics_path: Path of the Prometheus metrics on the REST port; None: none.
        tls: Key and certificate for both ports; None: not encrypted.
        enable_config_reload: Answer HandleReloadConfigRequest.
        max_request_bytes: Largest gRPC message.
        max_rest_body_bytes: Largest REST body, as sent and after unpacking.
        max_request_strings: Most strings in an input: a row of a few bytes costs a model kilobytes.
        max_filled_bytes: Most bytes of values that an input may leave out.
        max_call_seconds: Longest gRPC call, also of one without a deadline.
        max_connections: Connections of each port; of REST, the one that waits longest makes room.
        connection_idle_seconds: How long a connection may stay without a request.
    """

    port: int = 8500
    rest_port: int | None = None
    host: str = "localhost"
    file_system_poll_wait_seconds: float = 1.0
    max_num_load_retries: int = 5
    load_retry_interval_micros: int = 60_000_000
    allow_version_labels_for_unavailable_models: bool = False
    saved_model_tags: tuple[str, ...] = ("serve",)
    enable_model_warmup: bool = True
    batching: BatchingOptions | None = None
    enable_per_model_batching_parameters: bool = False
    grpc_max_threads: int = 4 * CORES
    rest_api_num_threads: int = 4 * CORES
    rest_api_timeout_in_ms: int = 30_000
    tensorflow_session_parallelism: int = 0
    tensorflow_intra_op_parallelism: int = 0
    tensorflow_inter_op_parallelism: int = 0
    enable_grpc_healthcheck_service: bool = True
    enable_serialization_as_tensor_content: bool = False
    metrics_path: str | None = None
    tls: TlsOptions | None = None
    enable_config_reload: bool = True
    max_request_bytes: int = 128 * 2**20
    max_rest_body_bytes: int = 32 * 2**20
    max_request_strings: int = 4096
    max_filled_bytes: int = 2**20
    max_call_seconds: float = 600.0
    max_connections: int = 2000
    connection_idle_seconds: float = 60.0
