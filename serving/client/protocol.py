"""Client side of TensorFlow Serving's protocol, without TensorFlow.

The published stubs import TensorFlow, which takes seconds and 700 MB before the first request. The
messages here have the same field numbers, so that they are the same bytes on the wire; they live in
a descriptor pool of their own and do not clash with the stubs in a process that has both.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from vatt_tf.errors import UserError

PREDICT = "/tensorflow.serving.PredictionService/Predict"

_Field = descriptor_pb2.FieldDescriptorProto
# message -> field -> (number, type); a list stands for a repeated field, a name for a message.
_SCHEMA: dict[str, dict[str, tuple[int, Any]]] = {
    "Dim": {"size": (1, _Field.TYPE_INT64)},
    "TensorShape": {"dim": (2, ["Dim"])},
    "Tensor": {
        "dtype": (1, _Field.TYPE_INT32),
        "tensor_shape": (2, "TensorShape"),
        "tensor_content": (4, _Field.TYPE_BYTES),
        "float_val": (5, [_Field.TYPE_FLOAT]),
        "double_val": (6, [_Field.TYPE_DOUBLE]),
        "int_val": (7, [_Field.TYPE_INT32]),
        "string_val": (8, [_Field.TYPE_BYTES]),
        "int64_val": (10, [_Field.TYPE_INT64]),
        "bool_val": (11, [_Field.TYPE_BOOL]),
    },
    "Int64Value": {"value": (1, _Field.TYPE_INT64)},
    "ModelSpec": {
        "name": (1, _Field.TYPE_STRING),
        "version": (2, "Int64Value"),
        "signature_name": (3, _Field.TYPE_STRING),
    },
    # A map on the wire is a repeated message with the fields key = 1 and value = 2.
    "NamedTensor": {"key": (1, _Field.TYPE_STRING), "value": (2, "Tensor")},
    "PredictRequest": {"model_spec": (1, "ModelSpec"), "inputs": (2, ["NamedTensor"])},
    "PredictResponse": {"outputs": (1, ["NamedTensor"]), "model_spec": (2, "ModelSpec")},
}

# numpy dtype -> (TensorFlow's number of the type, field of a reply that holds its values).
_DTYPES = {
    np.dtype(np.float32): (1, "float_val"),
    np.dtype(np.float64): (2, "double_val"),
    np.dtype(np.int32): (3, "int_val"),
    np.dtype(np.uint8): (4, "int_val"),
    np.dtype(object): (7, "string_val"),
    np.dtype(np.int64): (9, "int64_val"),
    np.dtype(np.bool_): (10, "bool_val"),
}
_BY_NUMBER = {number: (dtype, field) for dtype, (number, field) in _DTYPES.items()}


def _message_classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="vatt_tf/serving/client.proto", package="vatt_tf.serving", syntax="proto3"
    )
    for name, fields in _SCHEMA.items():
        message = file.message_type.add(name=name)
        for field_name, (number, kind) in fields.items():
            field = message.field.add(name=field_name, number=number, label=_Field.LABEL_OPTIONAL)
            if isinstance(kind, list):
                field.label, kind = _Field.LABEL_REPEATED, kind[0]
            if isinstance(kind, str):
                field.type, field.type_name = _Field.TYPE_MESSAGE, f".vatt_tf.serving.{kind}"
            else:
                field.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"vatt_tf.serving.{name}"))
        for name in _SCHEMA
    }


_MESSAGES = _message_classes()


@dataclasses.dataclass(frozen=True)
class Request:
    """Predict request.

    Attributes:
        model: Name of the served model.
        signature: Name of its signature.
        inputs: Arrays by input name; arrays of ``bytes`` have dtype object.
    """

    model: str
    signature: str
    inputs: Mapping[str, np.ndarray]

    def serialize(self) -> bytes:
        """Serializes the request."""
        message = _MESSAGES["PredictRequest"]()
        message.model_spec.name = self.model
        message.model_spec.signature_name = self.signature
        for name, value in self.inputs.items():
            entry = message.inputs.add(key=name)
            _fill(entry.value, value)
        return message.SerializeToString()


@dataclasses.dataclass(frozen=True)
class Reply:
    """Reply to a Predict request.

    Attributes:
        version: Version of the model that answered.
        outputs: Arrays by output name.
    """

    version: int
    outputs: Mapping[str, np.ndarray]

    @classmethod
    def parse(cls, data: bytes) -> Reply:
        """Parses a reply."""
        message = _MESSAGES["PredictResponse"].FromString(data)
        outputs = {entry.key: _array(entry.value) for entry in message.outputs}
        return cls(message.model_spec.version.value, outputs)


def _fill(tensor: Any, value: np.ndarray) -> None:
    if value.dtype not in _DTYPES:
        raise UserError(f"cannot send an array of {value.dtype}; expected one of {list(_DTYPES)}")
    tensor.dtype = _DTYPES[value.dtype][0]
    for size in value.shape:
        tensor.tensor_shape.dim.add(size=size)
    if value.dtype == object:
        tensor.string_val.extend(value.ravel().tolist())
    else:
        tensor.tensor_content = value.tobytes()


def _array(tensor: Any) -> np.ndarray:
    if tensor.dtype not in _BY_NUMBER:
        raise UserError(f"the server sent a tensor of type number {tensor.dtype}, unknown here")
    dtype, field = _BY_NUMBER[tensor.dtype]
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    if tensor.tensor_content:
        return np.frombuffer(tensor.tensor_content, dtype).reshape(shape)
    values = np.array(getattr(tensor, field), dtype)
    count = math.prod(shape)
    if 0 < len(values) < count:  # equal values at the end are sent once
        values = np.concatenate([values, np.repeat(values[-1:], count - len(values))])
    return values.reshape(shape)
