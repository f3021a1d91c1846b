"""TensorProto <-> NumPy, as strict as TensorFlow's own parser and without needless copies."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from tensorflow.core.framework import tensor_pb2, types_pb2

from vatt_tf.wording import count_of

# Largest tensor in bytes, that of the largest message.
_MAX_BYTES = 2**31 - 1
# That of NumPy; a model server takes 254.
_MAX_RANK = 64

# The repeated field that carries the values of a dtype.
_FIELDS = {
    types_pb2.DT_FLOAT: "float_val",
    types_pb2.DT_DOUBLE: "double_val",
    types_pb2.DT_INT32: "int_val",
    types_pb2.DT_UINT8: "int_val",
    types_pb2.DT_INT16: "int_val",
    types_pb2.DT_UINT16: "int_val",
    types_pb2.DT_INT8: "int_val",
    types_pb2.DT_STRING: "string_val",
    types_pb2.DT_INT64: "int64_val",
    types_pb2.DT_BOOL: "bool_val",
    types_pb2.DT_HALF: "half_val",
    types_pb2.DT_BFLOAT16: "half_val",
    types_pb2.DT_UINT32: "uint32_val",
    types_pb2.DT_UINT64: "uint64_val",
    types_pb2.DT_COMPLEX64: "scomplex_val",
    types_pb2.DT_COMPLEX128: "dcomplex_val",
}
# Packed fields whose bytes on the wire are the array's own bytes: number of the field in
# TensorProto, kept with the wire type "length-delimited" in the low bits.
_RAW_FIELD_TAGS = {
    types_pb2.DT_FLOAT: (5 << 3) | 2,
    types_pb2.DT_DOUBLE: (6 << 3) | 2,
    types_pb2.DT_BOOL: (11 << 3) | 2,
}


class TensorParseError(ValueError):
    """Raised for a TensorProto whose shape, dtype and content contradict each other."""


class TensorTooLargeError(TensorParseError):
    """Raised for a TensorProto that would cost more than a request may."""


@functools.cache
def numpy_dtype(dtype: int) -> np.dtype:
    """NumPy dtype of a TensorFlow dtype number; strings are arrays of ``bytes`` objects."""
    import tensorflow as tf

    return np.dtype(tf.dtypes.as_dtype(dtype).as_numpy_dtype)


@functools.cache
def tensorflow_dtype(dtype: np.dtype) -> int:
    """TensorFlow dtype number of an array's dtype."""
    import tensorflow as tf

    return tf.dtypes.as_dtype("string" if dtype.kind in "OSU" else dtype).as_datatype_enum


def to_array(
    proto: tensor_pb2.TensorProto,
    *,
    max_strings: int = _MAX_BYTES,
    max_filled_bytes: int = _MAX_BYTES,
) -> np.ndarray:
    """Reads a TensorProto.

    Args:
        proto: Values either in ``tensor_content`` or in the typed field. A typed field may be
            shorter than the tensor: its last value is repeated (no value: zeros). An unknown rank
            is that of a scalar.
        max_strings: Most strings.
        max_filled_bytes: Most bytes of values that are left out: a message of a few bytes could
            else take any memory.

    Returns:
        Array of the proto's shape; read-only if it shares memory with the message.

    Raises:
        TensorParseError: If the proto cannot be read.
        TensorTooLargeError: If it is beyond one of the limits.
    """
    field = _FIELDS.get(proto.dtype)
    if field is None:
        raise TensorParseError(f"dtype {proto.dtype} is not supported")
    dtype = numpy_dtype(proto.dtype)
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    if proto.tensor_shape.unknown_rank:
        shape = ()
    if len(shape) > _MAX_RANK or min(shape, default=0) < 0:
        raise TensorParseError(f"no tensor has the shape {shape}")
    count = math.prod(shape)
    if count * dtype.itemsize > _MAX_BYTES:
        raise TensorParseError(f"shape {shape} is too large")
    if proto.dtype == types_pb2.DT_STRING and count > max_strings:
        raise TensorTooLargeError(
            f"{count} strings, at most {max_strings} are taken at once (max_request_strings)"
        )
    content = proto.tensor_content
    if content:
        if proto.dtype == types_pb2.DT_STRING:
            return _strings_from_content(content, count).reshape(shape)
        if len(content) != count * dtype.itemsize:
            raise TensorParseError(f"{len(content)} bytes of content for the shape {shape}")
        return np.frombuffer(content, dtype).reshape(shape)
    values = _typed_values(proto, field, dtype)
    filled = (count - len(values)) * dtype.itemsize
    if filled > max_filled_bytes:
        raise TensorTooLargeError(
            f"{count_of(len(values), 'value')} for the shape {list(shape)}: {filled} bytes would "
            f"be filled in, at most {max_filled_bytes} are (max_filled_bytes)"
        )
    return _spread(values, count, dtype).reshape(shape)


def _typed_values(proto: tensor_pb2.TensorProto, field: str, dtype: np.dtype) -> np.ndarray:
    """Values of the typed field, as many as there are."""
    values = getattr(proto, field)
    if proto.dtype in _RAW_FIELD_TAGS and proto.ListFields()[-1][0].name == field:
        # Fields are written in the order of their numbers: the message ends in these values, as
        # the array's own bytes. Reading them one by one takes a hundred times as long.
        size = len(values) * dtype.itemsize
        return np.frombuffer(proto.SerializeToString()[-size:] if size else b"", dtype)
    if field == "string_val":
        array = np.empty(len(values), object)
        array[:] = list(values)
        return array
    if field == "half_val":  # The 16 bits of each value, as an integer.
        return np.fromiter(values, np.uint16, len(values)).view(dtype)
    if field in ("scomplex_val", "dcomplex_val"):
        if len(values) % 2:
            raise TensorParseError("a complex value has no imaginary part")
        part = np.float32 if field == "scomplex_val" else np.float64
        return np.array(values, part).view(dtype)
    # int_val also carries the small integers: what does not fit wraps around, as in C++.
    return (
        np.array(values, np.int32).astype(dtype) if field == "int_val" else np.array(values, dtype)
    )


def _spread(values: np.ndarray, count: int, dtype: np.dtype) -> np.ndarray:
    """Extends the values of a typed field to ``count`` elements."""
    if len(values) >= count:
        return values[:count]
    blank: Any = b"" if dtype.kind == "O" else 0
    last = values[-1] if len(values) else blank
    result = np.full(count, last, dtype)
    result[: len(values)] = values
    return result


def _strings_from_content(content: bytes, count: int) -> np.ndarray:
    """Reads strings packed into ``tensor_content``: all lengths as varints, then the bytes."""
    lengths, position = [], 0
    for _ in range(count):
        value = shift = 0
        while True:
            if position >= len(content) or shift > 28:
                raise TensorParseError("lengths of the strings cannot be read")
            byte = content[position]
            position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        lengths.append(value)
    if position + sum(lengths) != len(content):
        raise TensorParseError("the strings are shorter or longer than their lengths say")
    array = np.empty(count, object)
    for index, length in enumerate(lengths):
        array[index] = content[position : position + length]
        position += length
    return array


def fill_proto(proto: tensor_pb2.TensorProto, array: Any, *, as_content: bool = False) -> None:
    """Writes an array into an empty TensorProto.

    Args:
        proto: Receives the values.
        array: An array or scalar; strings as ``bytes`` objects.
        as_content: Put the values into ``tensor_content`` instead of the typed fields.
    """
    array = np.asarray(array)
    dtype = tensorflow_dtype(array.dtype)
    proto.dtype = dtype
    proto.tensor_shape.SetInParent()
    for size in array.shape:
        proto.tensor_shape.dim.add().size = size
    if dtype == types_pb2.DT_STRING:
        proto.string_val.extend(array.ravel().tolist())
    elif as_content:
        proto.tensor_content = array.tobytes()
    elif dtype in _RAW_FIELD_TAGS:
        # One copy of the array's bytes instead of one Python object per value.
        raw = array.tobytes()
        proto.MergeFromString(bytes([_RAW_FIELD_TAGS[dtype]]) + _varint(len(raw)) + raw)
    else:
        flat = array.ravel()
        field = _FIELDS[dtype]
        if field == "half_val":
            flat = flat.view(np.uint16)
        elif field == "scomplex_val":
            flat = flat.view(np.float32)
        elif field == "dcomplex_val":
            flat = flat.view(np.float64)
        getattr(proto, field).extend(flat.tolist())


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
