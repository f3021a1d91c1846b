"""Reads the configuration files of tensorflow_model_server, in protocol buffer text format."""

from __future__ import annotations

import functools
import os
from typing import Any, TypeVar

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf import wrappers_pb2 as wrappers_pb2  # Its types are used in the schema.
from google.protobuf.message import Message

from vatt_tf.errors import UserError
from vatt_tf.serving.server.models.model_config import ModelServerConfig
from vatt_tf.serving.server.models.options import BatchingOptions

M = TypeVar("M", bound=Message)

_FIELD = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "tensorflow.serving"
# The stubs that come with the serving API leave these messages out. Field name -> (number,
# type); a type with a dot is a message.
_SCHEMA: dict[str, dict[str, tuple[int, Any]]] = {
    "BatchingParameters": {
        "max_batch_size": (1, ".google.protobuf.Int64Value"),
        "batch_timeout_micros": (2, ".google.protobuf.Int64Value"),
        "max_enqueued_batches": (3, ".google.protobuf.Int64Value"),
        "num_batch_threads": (4, ".google.protobuf.Int64Value"),
        "thread_pool_name": (5, ".google.protobuf.StringValue"),
        "allowed_batch_sizes": (6, _FIELD.TYPE_INT64),
        "pad_variable_length_inputs": (7, _FIELD.TYPE_BOOL),
    },
    "PrometheusConfig": {"enable": (1, _FIELD.TYPE_BOOL), "path": (2, _FIELD.TYPE_STRING)},
    "MonitoringConfig": {"prometheus_config": (1, f".{_PACKAGE}.PrometheusConfig")},
    "SSLConfig": {
        "server_key": (1, _FIELD.TYPE_STRING),
        "server_cert": (2, _FIELD.TYPE_STRING),
        "custom_ca": (3, _FIELD.TYPE_STRING),
        "client_verify": (4, _FIELD.TYPE_BOOL),
    },
}
_REPEATED = {"allowed_batch_sizes"}


def read_models(path: str | os.PathLike) -> ModelServerConfig:
    """Reads a --model_config_file.

    Raises:
        UserError: If it cannot be read or has no model_config_list.
    """
    config = _read(path, ModelServerConfig(), "--model_config_file")
    if config.WhichOneof("config") != "model_config_list":
        raise UserError(
            f"{path}: expected model_config_list {{ config {{ name ... base_path ... }} }}, found "
            "none"
        )
    return config


def read_batching(path: str | os.PathLike) -> BatchingOptions:
    """Reads a --batching_parameters_file or the batching_params.pbtxt of a version.

    Raises:
        UserError: If it cannot be read or its numbers contradict each other.
    """
    message: Any = _read(path, _message("BatchingParameters"), "--batching_parameters_file")
    given = {
        field.name: getattr(message, field.name).value
        for field, _ in message.ListFields()
        if field.message_type is not None
    }
    allowed = tuple(message.allowed_batch_sizes)
    if allowed:
        given["allowed_batch_sizes"] = allowed
    options = BatchingOptions(
        **given, pad_variable_length_inputs=message.pad_variable_length_inputs
    )
    if allowed and (sorted(set(allowed)) != list(allowed) or allowed[0] < 1):
        raise UserError(f"{path}: allowed_batch_sizes must ascend from 1 on, found {list(allowed)}")
    if allowed and allowed[-1] != options.max_batch_size:
        raise UserError(
            f"{path}: the last of allowed_batch_sizes must equal max_batch_size "
            f"({options.max_batch_size}), found {allowed[-1]}"
        )
    for name, least in (
        ("max_batch_size", 1),
        ("batch_timeout_micros", 0),
        ("max_enqueued_batches", 1),
        ("num_batch_threads", 1),
    ):
        if getattr(options, name) < least:
            raise UserError(f"{path}: {name} must be >= {least}, found {getattr(options, name)}")
    return options


def read_metrics_path(path: str | os.PathLike) -> str | None:
    """Reads a --monitoring_config_file: the path of the metrics, or None if they are off.

    Raises:
        UserError: If it cannot be read.
    """
    message: Any = _read(path, _message("MonitoringConfig"), "--monitoring_config_file")
    prometheus = message.prometheus_config
    if not prometheus.enable:
        return None
    return prometheus.path or "/monitoring/prometheus/metrics"


def read_ssl(path: str | os.PathLike) -> Any:
    """Reads an --ssl_config_file: the message SSLConfig.

    Raises:
        UserError: If it cannot be read.
    """
    return _read(path, _message("SSLConfig"), "--ssl_config_file")


def _read(path: str | os.PathLike, message: M, flag: str) -> M:
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{flag}={path}: cannot be read: {error}") from error
    try:
        return text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise UserError(
            f"{path}: line {error} (expected a {message.DESCRIPTOR.name} in text format)"
        ) from error


def _message(name: str) -> Message:
    return _message_classes()[f"{_PACKAGE}.{name}"]()


@functools.cache
def _message_classes() -> dict[str, type[Message]]:
    """Message classes of :data:`_SCHEMA`, in a pool of their own."""
    file = descriptor_pb2.FileDescriptorProto(
        name="vatt_tf/serving/config_files.proto",
        package=_PACKAGE,
        syntax="proto3",
        dependency=["google/protobuf/wrappers.proto"],
    )
    for message_name, fields in _SCHEMA.items():
        message = file.message_type.add(name=message_name)
        for name, (number, kind) in fields.items():
            field = message.field.add(
                name=name,
                number=number,
                label=_FIELD.LABEL_REPEATED if name in _REPEATED else _FIELD.LABEL_OPTIONAL,
            )
            if isinstance(kind, str):
                field.type, field.type_name = _FIELD.TYPE_MESSAGE, kind
            else:
                field.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClassesForFiles([file.name], pool)
