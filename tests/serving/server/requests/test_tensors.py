"""TensorProto <-> NumPy: every dtype both ways, and protos that contradict themselves."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

from vatt_tf.serving.server.requests import tensors

DTYPES = [
    "float16",
    "bfloat16",
    "float32",
    "float64",
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "bool",
    "complex64",
    "complex128",
]


def values(dtype):
    array = np.array([[0, 1, 2], [3, 100, 1]]).astype(tf.dtypes.as_dtype(dtype).as_numpy_dtype)
    return array - array[0, 2] if dtype.startswith(("float", "int")) else array


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("as_content", [False, True])
def test_both_ways_as_tensorflow_does(dtype, as_content):
    array = values(dtype)
    proto = tensor_pb2.TensorProto()
    tensors.fill_proto(proto, array, as_content=as_content)
    assert bool(proto.tensor_content) == as_content
    np.testing.assert_array_equal(tf.make_ndarray(proto), array)
    np.testing.assert_array_equal(tensors.to_array(proto), array)
    np.testing.assert_array_equal(tensors.to_array(tf.make_tensor_proto(array)), array)
    assert tensors.to_array(proto).dtype == array.dtype


def test_typed_fields_are_those_of_tensorflow():
    for array in (np.float32([1.5, -2]), np.array([True, False]), np.int64([-3]), np.float32(7)):
        proto = tensor_pb2.TensorProto()
        tensors.fill_proto(proto, array)
        field = {"f": "float_val", "b": "bool_val", "i": "int64_val"}[array.dtype.kind]
        assert list(getattr(proto, field)) == np.ravel(array).tolist()


def test_strings():
    array = np.array([[b"a", b""], [b"\xff\x00", b"text"]], object)
    proto = tensor_pb2.TensorProto()
    tensors.fill_proto(proto, array)
    np.testing.assert_array_equal(tensors.to_array(proto), array)
    packed = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING)
    for size in (2, 2):
        packed.tensor_shape.dim.add().size = size
    long = b"x" * 300
    packed.tensor_content = bytes([1, 0, 0xAC, 0x02, 4]) + b"a" + long + b"text"
    assert tensors.to_array(packed).tolist() == [[b"a", b""], [long, b"text"]]
    packed.tensor_content = packed.tensor_content[:-1]
    with pytest.raises(tensors.TensorParseError):
        tensors.to_array(packed)


def proto_of(dtype=types_pb2.DT_FLOAT, shape=(2,), **fields):
    proto = tensor_pb2.TensorProto(dtype=dtype, **fields)
    for size in shape:
        proto.tensor_shape.dim.add().size = size
    return proto


@pytest.mark.parametrize(
    ("proto", "expected"),
    [
        (proto_of(float_val=[3.0]), [3, 3]),
        (proto_of(), [0, 0]),
        (proto_of(float_val=[1.0, 2.0, 3.0]), [1, 2]),
        (proto_of(shape=(0,)), []),
        (proto_of(shape=(), float_val=[4.0]), 4),
        (proto_of(types_pb2.DT_UINT8, int_val=[256 + 5]), [5, 5]),
        (proto_of(types_pb2.DT_STRING), [b"", b""]),
        (proto_of(types_pb2.DT_STRING, string_val=[b"s"]), [b"s", b"s"]),
    ],
)
def test_short_and_long_typed_fields(proto, expected):
    assert tensors.to_array(proto).tolist() == expected


@pytest.mark.parametrize(
    "proto",
    [
        proto_of(tensor_content=b"1234567"),
        proto_of(shape=(-1,)),
        proto_of(shape=(2**40, 2**40)),
        proto_of(types_pb2.DT_STRING, shape=(2**62,)),
        proto_of(types_pb2.DT_INVALID),
        proto_of(types_pb2.DT_RESOURCE),
        proto_of(99),
        proto_of(types_pb2.DT_COMPLEX64, scomplex_val=[1.0]),
        proto_of(types_pb2.DT_STRING, tensor_content=b"\xff\xff\xff\xff\xff\xff"),
        proto_of(shape=(1,) * 65),
    ],
)
def test_contradictions_are_refused(proto):
    with pytest.raises(tensors.TensorParseError):
        tensors.to_array(proto)


def test_unknown_rank_is_that_of_a_scalar():
    proto = proto_of(shape=(), float_val=[2.5])
    proto.tensor_shape.unknown_rank = True
    assert tensors.to_array(proto).tolist() == 2.5


def test_limits():
    strings = proto_of(types_pb2.DT_STRING, shape=(3, 2))
    assert tensors.to_array(strings, max_strings=6).shape == (3, 2)
    with pytest.raises(tensors.TensorTooLargeError, match="6 strings, at most 5"):
        tensors.to_array(strings, max_strings=5)
    floats = proto_of(shape=(4,), float_val=[1.0, 2.0])
    assert tensors.to_array(floats, max_filled_bytes=8).tolist() == [1, 2, 2, 2]
    with pytest.raises(tensors.TensorTooLargeError, match="8 bytes would be filled in, at most 7"):
        tensors.to_array(floats, max_filled_bytes=7)


def test_large_content_is_not_copied_again():
    proto = tf.make_tensor_proto(np.zeros((2, 1000), np.uint8))
    assert not tensors.to_array(proto).flags.owndata


def test_values_in_another_field_do_not_mix_in():
    proto = proto_of(float_val=[1.5, 2.5], int_val=[7], string_val=[b"x"])
    assert tensors.to_array(proto).tolist() == [1.5, 2.5]
    proto = proto_of(types_pb2.DT_BOOL, bool_val=[True, False], float_val=[1.0])
    assert tensors.to_array(proto).tolist() == [True, False]
