"""JSON <-> tf.Examples for the REST forms of Classify and Regress."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
from tensorflow_serving.apis import classification_pb2, regression_pb2

from vatt_tf.serving.server.models.status import invalid
from vatt_tf.serving.server.rest import values as rest_json

_KINDS = {"bytes_list": "bytes", "float_list": "float", "int64_list": "int64"}


def fill_request(
    request: classification_pb2.ClassificationRequest | regression_pb2.RegressionRequest,
    document: Mapping[str, Any],
) -> None:
    """Reads ``{"examples": [...], "context": {...}}``.

    Raises:
        ServingError: INVALID_ARGUMENT, if a feature cannot be made of a value.
    """
    request.model_spec.signature_name = rest_json.signature_name(document)
    if "examples" not in document:
        invalid("When method is classify, key 'examples' is expected and was not found")
    examples = document["examples"]
    if not isinstance(examples, list):
        invalid("Expecting 'examples' value to be an list/array")
    if not examples:
        invalid("'examples' value is an empty array")
    if "context" in document:
        target = request.input.example_list_with_context
        _fill_example(target.context, document["context"])
    else:
        target = request.input.example_list
    for example in examples:
        _fill_example(target.examples.add(), example)


def _fill_example(example: tf.train.Example, value: Any) -> None:
    if not isinstance(value, dict):
        invalid(f"Example must be JSON object but got JSON {type(value).__name__}")
    for name, content in value.items():
        feature = example.features.feature[name]
        for item in content if isinstance(content, list) else [content]:
            _add(feature, name, item)


def _add(feature: tf.train.Feature, name: str, value: Any) -> None:
    if isinstance(value, (bool, int)):
        kind, stored = "int64_list", int(value)
        if not -(2**63) <= stored < 2**63:
            invalid(f"Feature: {name} has uint64 element. Only int64 is supported.")
    elif isinstance(value, float):
        kind, stored = "float_list", value
    elif isinstance(value, str) or rest_json.is_base64(value):
        kind = "bytes_list"
        text = isinstance(value, str)
        stored = rest_json.encode_text(value) if text else rest_json.decode_base64(value)
    else:
        invalid(f"Feature: {name} has element with unexpected JSON type: {type(value).__name__}")
    set_kind = feature.WhichOneof("kind")
    if set_kind not in (None, kind):
        invalid(f"Unexpected element type in feature: {name} expecting type: {_KINDS[set_kind]}")
    getattr(feature, kind).value.append(stored)


def classifications(response: classification_pb2.ClassificationResponse) -> dict[str, Any]:
    """The JSON object of a Classify reply: per example a list of [label, score]."""
    return {
        "results": [
            [[entry.label, rest_json.shortest(entry.score)] for entry in row.classes]
            for row in response.result.classifications
        ]
    }


def regressions(response: regression_pb2.RegressionResponse) -> dict[str, Any]:
    """The JSON object of a Regress reply: one value per example."""
    values = [entry.value for entry in response.result.regressions]
    return {"results": rest_json.shortest(values)}
