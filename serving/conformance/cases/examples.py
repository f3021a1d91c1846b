"""Classify, Regress and MultiInference: requests of tf.Example protos."""

from __future__ import annotations

from typing import Any

import grpc
from tensorflow_serving.apis import classification_pb2, inference_pb2, regression_pb2

from vatt_tf.serving.conformance.cases.connection import Server
from vatt_tf.serving.conformance.suite import Group, accepted, equal, refused

CODE = grpc.StatusCode
CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"
PREDICT = "tensorflow/serving/predict"

examples = Group("examples")


def _fill(request: Any, numbers: list[float]) -> Any:
    for number in numbers:
        example = request.input.example_list.examples.add()
        example.features.feature["x"].float_list.value.append(number)
    return request


def classification(
    model: str = "examples", signature: str = "classify", numbers: tuple[float, ...] = (1.0, 3.0)
) -> Any:
    """Returns a Classify request with an Example for each number."""
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    return _fill(request, list(numbers))


def regression(
    model: str = "examples", signature: str = "regress", numbers: tuple[float, ...] = (1.0, 3.0)
) -> Any:
    """Returns a Regress request with an Example for each number."""
    request = regression_pb2.RegressionRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    return _fill(request, list(numbers))


def _multi(*tasks: tuple[str, str, str]) -> Any:
    """Request of (model, signature, method) tasks."""
    request = inference_pb2.MultiInferenceRequest()
    for model, signature, method in tasks:
        task = request.tasks.add(method_name=method)
        task.model_spec.name = model
        task.model_spec.signature_name = signature
    return _fill(request, [1.0, 3.0])


def _classes(result: Any) -> list[list[tuple[str, float]]]:
    return [[(one.label, one.score) for one in item.classes] for item in result.classifications]


CLASSES = [[("low", -1.0), ("high", 1.0)], [("low", -3.0), ("high", 3.0)]]
VALUES = [2.5, 3.5]


@examples.case()
def classify(server: Server) -> None:
    """Classify gives label and score of every class, and the model_spec that was used."""
    response = accepted(server.classify(classification()))
    equal(_classes(response.result), CLASSES, "classes")
    spec = response.model_spec
    found = (spec.name, spec.version.value, spec.signature_name)
    equal(found, ("examples", 1, "classify"), "model_spec in the reply")


@examples.case()
def regress(server: Server) -> None:
    """Regress gives one value for each example; serving_default without a signature name."""
    response = accepted(server.regress(regression(signature="")))
    equal([item.value for item in response.result.regressions], VALUES, "values")
    equal(response.model_spec.signature_name, "serving_default", "signature_name in the reply")


@examples.case()
def unknown_model(server: Server) -> None:
    """An unknown model: NOT_FOUND, as for Predict."""
    message = "Servable not found for request: Latest(no_such_model)"
    refused(server.classify(classification("no_such_model")), CODE.NOT_FOUND, message)
    refused(server.regress(regression("no_such_model")), CODE.NOT_FOUND, message)


@examples.case()
def unknown_signature(server: Server) -> None:
    """An unknown signature: INVALID_ARGUMENT (Predict answers FAILED_PRECONDITION)."""
    message = "No signature was found with the name: zz"
    reply = server.classify(classification(signature="zz"))
    refused(reply, CODE.INVALID_ARGUMENT, message)
    refused(server.regress(regression(signature="zz")), CODE.INVALID_ARGUMENT, message)


@examples.case()
def empty_input(server: Server) -> None:
    """An input without examples: INVALID_ARGUMENT."""
    message = "Input is empty."
    refused(server.classify(classification(numbers=())), CODE.INVALID_ARGUMENT, message)
    absent = regression()
    absent.ClearField("input")
    refused(server.regress(absent), CODE.INVALID_ARGUMENT, message)


@examples.case()
def classify_wrong_outputs(server: Server) -> None:
    """Classify on a signature with neither classes nor scores: INVALID_ARGUMENT."""
    start = (
        "Expected classification signature outputs to contain at least one of "
        '"classes" or "scores". Signature was: '
    )
    reply = server.classify(classification(signature="regress"))
    refused(reply, CODE.INVALID_ARGUMENT, parts=[start])


@examples.case()
def regress_two_outputs(server: Server) -> None:
    """Regress on a signature with two outputs: INVALID_ARGUMENT."""
    reply = server.regress(regression(signature="classify"))
    refused(reply, CODE.INVALID_ARGUMENT, "Expected one output Tensor.")


@examples.case()
def multi_inference(server: Server) -> None:
    """MultiInference answers every task, in their order."""
    tasks = (("examples", "classify", CLASSIFY), ("examples", "regress", REGRESS))
    results = accepted(server.multi_inference(_multi(*tasks))).results
    equal(len(results), 2, "number of results")
    equal(_classes(results[0].classification_result), CLASSES, "classes")
    numbers = [item.value for item in results[1].regression_result.regressions]
    equal(numbers, VALUES, "values")


@examples.case()
def multi_unknown_method(server: Server) -> None:
    """A task whose method is neither classify nor regress: UNIMPLEMENTED."""
    reply = server.multi_inference(_multi(("examples", "classify", PREDICT)))
    message = f"Unsupported signature method_name: {PREDICT}"
    refused(reply, CODE.UNIMPLEMENTED, message)


@examples.case()
def multi_two_models(server: Server) -> None:
    """Tasks of two models: INVALID_ARGUMENT."""
    tasks = (("examples", "classify", CLASSIFY), ("half", "regress", REGRESS))
    message = "All ModelSpecs in a MultiInferenceRequest must access the same model name."
    refused(server.multi_inference(_multi(*tasks)), CODE.INVALID_ARGUMENT, message)


@examples.case()
def multi_no_tasks(server: Server) -> None:
    """No tasks: INVALID_ARGUMENT."""
    message = "ModelSpec has no name specified."
    refused(server.multi_inference(_multi()), CODE.INVALID_ARGUMENT, message)


@examples.case()
def multi_same_signature(server: Server) -> None:
    """The same signature twice: INVALID_ARGUMENT."""
    task = ("examples", "classify", CLASSIFY)
    refused(server.multi_inference(_multi(task, task)), CODE.INVALID_ARGUMENT)
