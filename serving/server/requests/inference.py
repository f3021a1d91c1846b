"""Classify, Regress and MultiInference: tf.Examples in, labels, scores or values out."""

from __future__ import annotations

import numpy as np
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    input_pb2,
    model_pb2,
    regression_pb2,
)

from vatt_tf.serving.server.models.manager import LoadedModel
from vatt_tf.serving.server.models.servable import DEFAULT_SIGNATURE
from vatt_tf.serving.server.models.status import Code, ServingError, invalid
from vatt_tf.serving.server.requests.predict import fill_model_spec

CLASSIFY_METHOD = "tensorflow/serving/classify"
REGRESS_METHOD = "tensorflow/serving/regress"

_INPUTS, _OUTPUTS, _CLASSES, _SCORES = "inputs", "outputs", "classes", "scores"


def classify(
    model: LoadedModel, request: classification_pb2.ClassificationRequest, timeout: float | None
) -> classification_pb2.ClassificationResponse:
    """Handles a Classify request.

    Args:
        model: The version to run.
        request: Holds the examples.
        timeout: Seconds left for the answer, or None.

    Raises:
        ServingError: If the signature is not one that classifies, or the model fails.
    """
    name, signature = _find_signature(model, request.model_spec)
    response = classification_pb2.ClassificationResponse()
    _classify(model, name, signature, request.input, timeout, response.result)
    fill_model_spec(response.model_spec, model, name)
    return response


def regress(
    model: LoadedModel, request: regression_pb2.RegressionRequest, timeout: float | None
) -> regression_pb2.RegressionResponse:
    """Handles a Regress request; arguments and errors as :func:`classify`."""
    name, signature = _find_signature(model, request.model_spec)
    response = regression_pb2.RegressionResponse()
    _regress(model, name, signature, request.input, timeout, response.result)
    fill_model_spec(response.model_spec, model, name)
    return response


def multi_inference(
    model: LoadedModel, request: inference_pb2.MultiInferenceRequest, timeout: float | None
) -> inference_pb2.MultiInferenceResponse:
    """Handles several Classify and Regress tasks on the same examples."""
    response = inference_pb2.MultiInferenceResponse()
    seen = set()
    for task in request.tasks:
        name, signature = _find_signature(model, task.model_spec)
        if name in seen:
            invalid(f"Duplicate evaluation of signature: {name}")
        seen.add(name)
        result = response.results.add()
        if task.method_name == CLASSIFY_METHOD:
            _classify(model, name, signature, request.input, timeout, result.classification_result)
        elif task.method_name == REGRESS_METHOD:
            _regress(model, name, signature, request.input, timeout, result.regression_result)
        else:
            raise ServingError(
                Code.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method_name}"
            )
        fill_model_spec(result.model_spec, model, name)
    return response


def multi_inference_spec(request: inference_pb2.MultiInferenceRequest) -> model_pb2.ModelSpec:
    """Returns the model of all tasks of a MultiInference request.

    Raises:
        ServingError: If there are no tasks or they name several models.
    """
    if not request.tasks:
        invalid("ModelSpec has no name specified.")
    first = request.tasks[0].model_spec
    for task in request.tasks:
        if not task.model_spec.name:
            invalid("ModelSpec has no name specified.")
        if task.model_spec.name != first.name:
            invalid("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
    return first


def count_examples(examples: input_pb2.Input) -> int:
    """Number of examples of a request."""
    kind = examples.WhichOneof("kind")
    return len(getattr(examples, kind).examples) if kind else 0


def _find_signature(
    model: LoadedModel, spec: model_pb2.ModelSpec
) -> tuple[str, meta_graph_pb2.SignatureDef]:
    name = spec.signature_name or DEFAULT_SIGNATURE
    signature = model.signatures.get(name)
    if signature is None:
        invalid(f"No signature was found with the name: {name}")
    return name, signature


def _classify(
    model: LoadedModel,
    name: str,
    signature: meta_graph_pb2.SignatureDef,
    examples: input_pb2.Input,
    timeout: float | None,
    result: classification_pb2.ClassificationResult,
) -> None:
    if len(signature.inputs) != 1:
        invalid("Expected one input Tensor.")
    if len(signature.outputs) not in (1, 2):
        invalid(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if _INPUTS not in signature.inputs:
        invalid(f"No classification inputs found in SignatureDef: {signature}")
    wanted = [alias for alias in (_CLASSES, _SCORES) if alias in signature.outputs]
    if not wanted:
        invalid(
            'Expected classification signature outputs to contain at least one of "classes" or '
            f'"scores". Signature was: {signature}'
        )
    count, values = _run(model, name, signature, examples, wanted, timeout)
    for alias, value in values.items():
        if value.ndim != 2:
            invalid(f"Expected Tensor shape: [batch_size num_classes] but got {_shape(value)}")
        if value.dtype != (object if alias == _CLASSES else np.float32):
            expected = "DT_STRING" if alias == _CLASSES else "DT_FLOAT"
            invalid(f"Expected {alias} Tensor of {expected}. Got: {value.dtype}")
        if len(value) != count:
            invalid(f"Expected {alias} output batch size of {count}. Got: {len(value)}")
    widths = [value.shape[1] for value in values.values()]
    if len(set(widths)) != 1:
        invalid(
            f"Tensors class and score should match in dim_size(1). Got {widths[0]} vs. {widths[1]}"
        )
    for row in range(count):
        classes = result.classifications.add().classes
        for column in range(widths[0]):
            entry = classes.add()
            if _CLASSES in values:
                entry.label = values[_CLASSES][row, column].decode("utf-8", "replace")
            if _SCORES in values:
                entry.score = values[_SCORES][row, column]


def _regress(
    model: LoadedModel,
    name: str,
    signature: meta_graph_pb2.SignatureDef,
    examples: input_pb2.Input,
    timeout: float | None,
    result: regression_pb2.RegressionResult,
) -> None:
    if len(signature.inputs) != 1:
        invalid("Expected one input Tensor.")
    if len(signature.outputs) != 1:
        invalid("Expected one output Tensor.")
    if _INPUTS not in signature.inputs:
        invalid(f"No regression inputs found in SignatureDef: {signature}")
    if _OUTPUTS not in signature.outputs:
        invalid(f"No regression outputs found in SignatureDef: {signature}")
    count, values = _run(model, name, signature, examples, [_OUTPUTS], timeout)
    value = values[_OUTPUTS]
    if value.ndim not in (1, 2) or (value.ndim == 2 and value.shape[1] != 1):
        invalid(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
            f"{_shape(value)}"
        )
    if len(value) != count:
        invalid(f"Expected output batch size to be {count}. Got: {len(value)}")
    if value.dtype != np.float32:
        invalid(f"Expected output Tensor of DT_FLOAT. Got: {value.dtype}")
    for number in value.ravel().tolist():
        result.regressions.add().value = number


def _run(
    model: LoadedModel,
    name: str,
    signature: meta_graph_pb2.SignatureDef,
    examples: input_pb2.Input,
    wanted: list[str],
    timeout: float | None,
) -> tuple[int, dict[str, np.ndarray]]:
    """Runs a checked signature on the serialized examples: their count, output alias -> value."""
    serialized = _serialize(examples)
    feeds = {signature.inputs[_INPUTS].name: serialized}
    values = model.run(name, feeds, [signature.outputs[alias].name for alias in wanted], timeout)
    arrays = (np.asarray(value) for value in values)
    return len(serialized), dict(zip(wanted, arrays, strict=True))


def _serialize(examples: input_pb2.Input) -> np.ndarray:
    """The examples as serialized strings [n]; a common context is merged into each."""
    kind = examples.WhichOneof("kind")
    if not count_examples(examples):
        invalid("Input is empty.")
    source = getattr(examples, kind)
    context = source.context.SerializeToString() if kind == "example_list_with_context" else b""
    result = np.empty(len(source.examples), object)
    # Joined protocol buffers are merged when they are read.
    result[:] = [context + example.SerializeToString() for example in source.examples]
    return result


def _shape(array: np.ndarray) -> str:
    return f"[{','.join(map(str, array.shape))}]"
