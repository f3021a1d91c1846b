"""Predict: checks a request against the signature, runs the model, writes the reply."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import model_pb2, predict_pb2

from vatt_tf.serving.server.models.manager import LoadedModel
from vatt_tf.serving.server.models.servable import DEFAULT_SIGNATURE
from vatt_tf.serving.server.models.status import Code, ServingError, invalid
from vatt_tf.serving.server.requests import tensors


def predict(
    model: LoadedModel,
    request: predict_pb2.PredictRequest,
    timeout: float | None,
    *,
    as_content: bool = False,
    read: Callable[[tensor_pb2.TensorProto], np.ndarray] = tensors.to_array,
) -> predict_pb2.PredictResponse:
    """Handles a Predict request.

    Shapes are not checked here: only ops in the graph object to them. Neither are dtypes: the
    runtime refuses a wrong one.

    Args:
        model: The version to run.
        request: The request; the version of its model_spec is ignored here.
        timeout: Seconds left for the answer, or None.
        as_content: Write the values as ``tensor_content``.
        read: Reads an input, within the limits of the server.

    Raises:
        ServingError: If the request does not fit the signature or the model fails.
    """
    name, signature = find_signature(model, request.model_spec.signature_name)
    if any(":" not in info.name for info in signature.outputs.values()):
        raise ServingError(Code.OUT_OF_RANGE, f'Signature "{name}" gives an operation, no tensor')
    feeds = _feeds(signature, request, read)
    aliases = _outputs(signature, request.output_filter)
    results = model.run(name, feeds, [signature.outputs[a].name for a in aliases], timeout)
    response = predict_pb2.PredictResponse()
    fill_model_spec(response.model_spec, model, name)
    for alias, value in zip(aliases, results, strict=True):
        tensors.fill_proto(response.outputs[alias], value, as_content=as_content)
    return response


def find_signature(model: LoadedModel, name: str) -> tuple[str, meta_graph_pb2.SignatureDef]:
    """Finds a signature; an empty name stands for ``serving_default``."""
    name = name or DEFAULT_SIGNATURE
    signature = model.signatures.get(name)
    if signature is None:
        raise ServingError(Code.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
    return name, signature


def fill_model_spec(spec: model_pb2.ModelSpec, model: LoadedModel, signature: str) -> None:
    """Fills the model_spec of a reply with its version and signature."""
    spec.name = model.name
    spec.version.value = model.version
    spec.signature_name = signature


def _feeds(
    signature: meta_graph_pb2.SignatureDef,
    request: predict_pb2.PredictRequest,
    read: Callable[[tensor_pb2.TensorProto], np.ndarray],
) -> dict[str, np.ndarray]:
    """Tensor name -> value for all inputs of the signature."""
    sent, expected = set(request.inputs), set(signature.inputs)
    if len(sent) > len(expected) or (len(sent) < len(expected) and not signature.defaults):
        invalid(
            f"input size does not match signature: {len(sent)}!={len(expected)} "
            f"len({_names(sent)}) != len({_names(expected)}). "
            f"Sent extra: {_names(sent - expected)}. "
            f"Missing but required: {_names(expected - sent)}."
        )
    feeds = {}
    for alias in sorted(expected):
        name = signature.inputs[alias].name
        if alias in sent:
            proto = request.inputs[alias]
        elif alias in signature.defaults:
            proto = signature.defaults[alias]
        else:
            invalid(
                f"Signature input alias: {alias}(feed name: {name}) not found in request and no "
                f"default value provided. Inputs expected to be in the request {_names(sent)}, or "
                f"default input alias set: {','.join(sorted(signature.defaults))}"
            )
        try:
            feeds[name] = read(proto)
        except tensors.TensorTooLargeError as error:
            invalid(f"{alias}: {error}")
        except tensors.TensorParseError as error:
            raise ServingError(Code.INVALID_ARGUMENT, f"tensor parsing error: {alias}") from error
    return feeds


def _outputs(signature: meta_graph_pb2.SignatureDef, output_filter: Iterable[str]) -> list[str]:
    """Aliases of the outputs to fetch, sorted: every order would be compiled anew."""
    chosen: set[str] = set()
    for alias in output_filter:
        if alias not in signature.outputs:
            invalid(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in "
                f"the set {_names(signature.outputs)}."
            )
        if alias in chosen:
            invalid(f"duplicate output tensor alias: {alias}")
        chosen.add(alias)
    return sorted(chosen or signature.outputs)


def _names(aliases: Iterable[str]) -> str:
    return "{" + ",".join(sorted(aliases)) + "}"
