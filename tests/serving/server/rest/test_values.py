"""JSON <-> tensors of the REST API: what is accepted, and what each mistake is told."""

from __future__ import annotations

import numpy as np
import pytest
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import classification_pb2, predict_pb2

from vatt_tf.serving.server.models.status import Code, ServingError
from vatt_tf.serving.server.requests import tensors
from vatt_tf.serving.server.rest import examples as rest_examples
from vatt_tf.serving.server.rest import values as rest_json

FLOAT, INT32, UINT8 = types_pb2.DT_FLOAT, types_pb2.DT_INT32, types_pb2.DT_UINT8
STRING, BOOL, INT64 = types_pb2.DT_STRING, types_pb2.DT_BOOL, types_pb2.DT_INT64


def infos(**dtypes):
    result = {}
    for alias, dtype in dtypes.items():
        info = meta_graph_pb2.TensorInfo(dtype=dtype)
        info.tensor_shape.dim.add().size = -1
        result[alias] = info
    return result


def inputs(document, **dtypes):
    """Arrays of the request that the document becomes."""
    request = predict_pb2.PredictRequest()
    rest_json.fill_predict_request(request, document, lambda name: infos(**dtypes))
    return {alias: tensors.to_array(proto) for alias, proto in request.inputs.items()}


def refused(function, *args, **kwargs):
    with pytest.raises(ServingError) as caught:
        function(*args, **kwargs)
    assert caught.value.code == Code.INVALID_ARGUMENT
    return caught.value.message


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        (1, FLOAT, np.float32(1)),
        ([1, 2.5], FLOAT, np.float32([1, 2.5])),
        ([[1], [2]], INT32, np.int32([[1], [2]])),
        ([300, 1], UINT8, np.uint8([44, 1])),
        ([-(2**63)], INT64, np.int64([-(2**63)])),
        ([True, False], BOOL, np.array([True, False])),
        ([], FLOAT, np.zeros(0, np.float32)),
        ([float("nan"), float("inf")], FLOAT, np.float32([np.nan, np.inf])),
        ([2**24 + 1, 1e39, -3.4028235e38], FLOAT, np.float32([2**24, np.inf, -3.4028235e38])),
        ([2**24 + 1, 10**30], FLOAT, np.float32([2**24, 1e30])),
    ],
)
def test_numbers(value, dtype, expected):
    array = rest_json.to_array(value, dtype)
    assert array.dtype == expected.dtype
    np.testing.assert_array_equal(array, expected)


def test_strings():
    array = rest_json.to_array(["ä", {"b64": "/wA="}, {"b64": "/wA"}], STRING)
    assert array.tolist() == ["ä".encode(), b"\xff\x00", b"\xff\x00"]


@pytest.mark.parametrize(
    ("value", "dtype", "part"),
    [
        ("a", FLOAT, 'JSON Value: "a" Type: String is not of expected type: float'),
        ([1.0, "a"], FLOAT, "Type: String"),
        ([1.0, True], FLOAT, "Type: True"),
        ([1, None], INT32, "Type: Null is not of expected type: int32"),
        ([1.5], INT32, "JSON Value: 1.5 Type: Number"),
        ([2**31], INT32, "Type: Number"),
        ([1], STRING, "Type: Number is not of expected type: string"),
        ([[1], [2, 3]], FLOAT, "unexpected size: 2 at level: 1 expected size: 1"),
        ([[1], 2], FLOAT, "found at incorrect level: 2"),
        ([1, [2]], FLOAT, "unexpected level: 1 expected < 1"),
        ([10**400], FLOAT, "too big"),
        ([{"b64": "%%"}], STRING, "Unable to base64 decode"),
        ([{"a": 1}], STRING, "not formatted correctly for base64 data"),
        ([{"a": 1}], FLOAT, "Type: Object"),
    ],
)
def test_values_that_do_not_fit(value, dtype, part):
    assert part in refused(rest_json.to_array, value, dtype)


def test_rows():
    assert inputs({"instances": [1, 2]}, x=FLOAT)["x"].tolist() == [1, 2]
    assert inputs({"instances": [[1], [2]]}, x=FLOAT)["x"].shape == (2, 1)
    assert inputs({"instances": ["a", {"b64": "Yg=="}]}, x=STRING)["x"].tolist() == [b"a", b"b"]
    named = inputs({"instances": [{"x": 1, "s": "a"}, {"x": 2, "s": "b"}]}, x=FLOAT, s=STRING)
    assert (named["x"].tolist(), named["s"].tolist()) == ([1, 2], [b"a", b"b"])


def test_columns():
    assert inputs({"inputs": [1, 2]}, x=FLOAT)["x"].tolist() == [1, 2]
    assert inputs({"inputs": 3}, x=FLOAT)["x"].shape == ()
    named = inputs({"inputs": {"x": [1], "s": ["a"]}}, x=FLOAT, s=STRING)
    assert (named["x"].tolist(), named["s"].tolist()) == ([1], [b"a"])


@pytest.mark.parametrize(
    ("document", "part"),
    [
        ({}, "Missing 'inputs' or 'instances' key"),
        ({"instances": [1], "inputs": [1]}, "expecting only one of 'inputs' or 'instances'"),
        ({"instances": 1}, "to be an list/array"),
        ({"instances": []}, "No values in 'instances' array"),
        ({"instances": [1, 2]}, "expecting list of objects"),
        ({"inputs": [1]}, "expecting an object"),
        ({"inputs": {"x": 1}}, "Missing named input: s in 'inputs' object."),
        ({"instances": [{"x": 1}]}, "keys must be equal to: s,x"),
        ({"instances": [{"x": 1, "z": 1}]}, "does not have named input: z"),
        ({"instances": [{"x": 1, "s": "a"}, 3]}, "Expecting object but got list at item 1"),
        ({"instances": [{"x": 1, "s": "a"}, {"x": [1], "s": "a"}]}, "Expecting shape [] but got"),
        ({"instances": [1], "signature_name": 3}, "'signature_name' key must be"),
    ],
)
def test_requests_that_do_not_fit(document, part):
    assert part in refused(inputs, document, x=FLOAT, s=STRING)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[1]",
        b"\xff",
        b"[" * 100_000,
        b'{"a": 1} x',
        b'{"a": 1e400}',
        b'{"a": "\\ud800"}',
        b'{"a": "\\udc00\\ud800"}',
        '{"a": 1}'.encode("utf-16"),
    ],
)
def test_broken_json(body):
    assert refused(rest_json.parse, body)


def test_strings_of_json():
    body = b'{"pair": "\\ud83d\\ude00", "escaped": "\\\\ud800", "bytes": "\xff"}'
    document = rest_json.parse(body)
    found = {name: rest_json.encode_text(text) for name, text in document.items()}
    assert found == {"pair": "😀".encode(), "escaped": b"\\ud800", "bytes": b"\xff"}


def reply(**outputs):
    response = predict_pb2.PredictResponse()
    for alias, value in outputs.items():
        tensors.fill_proto(response.outputs[alias], value)
    return response


def test_replies():
    one = reply(y=np.float32([0.2, 1]))
    assert rest_json.predictions(one, rows=True) == {"predictions": [0.2, 1.0]}
    assert rest_json.predictions(one, rows=False) == {"outputs": [0.2, 1.0]}
    both = reply(y=np.int64([[1], [2]]), z_bytes=np.array([b"a", b"b"], object))
    rows = [{"y": [1], "z_bytes": {"b64": "YQ=="}}, {"y": [2], "z_bytes": {"b64": "Yg=="}}]
    assert rest_json.predictions(both, rows=True) == {"predictions": rows}
    columns = {"y": [[1], [2]], "z_bytes": [{"b64": "YQ=="}, {"b64": "Yg=="}]}
    assert rest_json.predictions(both, rows=False) == {"outputs": columns}
    scalar = reply(y=np.float32(1))
    assert rest_json.predictions(scalar, rows=False) == {"outputs": 1.0}
    assert "no shape information" in refused(rest_json.predictions, scalar, True)
    uneven = reply(y=np.zeros(1), z=np.zeros(2))
    assert "inconsistent batch size" in refused(rest_json.predictions, uneven, True)


def test_floats_survive():
    array = np.random.default_rng(0).normal(size=100).astype(np.float32)
    values = rest_json.predictions(reply(y=array), rows=True)["predictions"]
    np.testing.assert_array_equal(np.float32(values), array)


def test_examples():
    request = classification_pb2.ClassificationRequest()
    document = {
        "signature_name": "s",
        "context": {"c": 1},
        "examples": [{"f": [1.5, 2.5], "i": [1, True], "b": "x", "raw": {"b64": "/w=="}}],
    }
    rest_examples.fill_request(request, document)
    assert request.model_spec.signature_name == "s"
    examples = request.input.example_list_with_context
    feature = examples.examples[0].features.feature
    assert list(feature["f"].float_list.value) == [1.5, 2.5]
    assert list(feature["i"].int64_list.value) == [1, 1]
    assert list(feature["b"].bytes_list.value) == [b"x"]
    assert list(feature["raw"].bytes_list.value) == [b"\xff"]
    assert list(examples.context.features.feature["c"].int64_list.value) == [1]


@pytest.mark.parametrize(
    ("document", "part"),
    [
        ({}, "key 'examples' is expected"),
        ({"examples": 1}, "to be an list/array"),
        ({"examples": []}, "is an empty array"),
        ({"examples": [1]}, "Example must be JSON object"),
        ({"examples": [{"a": [1, 1.5]}]}, "Unexpected element type in feature: a"),
        ({"examples": [{"a": None}]}, "unexpected JSON type"),
        ({"examples": [{"a": 2**63}]}, "Only int64 is supported"),
    ],
)
def test_examples_that_do_not_fit(document, part):
    request = classification_pb2.ClassificationRequest()
    assert part in refused(rest_examples.fill_request, request, document)
