"""Predict: checks a request against the signature, runs the model, writes the reply."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import model_pb2, predict_pb2

from vatt_tf.serving import tensors
from vatt_tf.serving.manager import LoadedModel
from vatt_tf.serving.servable import DEFAULT_SIGNATURE
from vatt_tf.serving.status import Code, ServingError, invalid


def predict(
    model: LoadedModel,
    request: predict_pb2.PredictRequest,
    timeout: float | None,
    *,
    as_content: bool = False,
) -> predict_pb2.PredictResponse:
    """Answers a Predict request.

    Args:
        model: The version to run.
        request: The request; its model_spec's version is not looked at any more.
        timeout: Seconds left for the answer, or None.
        as_content: Write the values as ``tensor_content``.

    Raises:
        ServingError: If the request does not fit the signature or the model fails.
    """
    call = PredictCall(model, request)
    results = model.run(call.signature, call.feeds, call.fetches, timeout)
    return call.reply(results, as_content=as_content)


class PredictCall:
    """A Predict request made ready to run, and the reply made of what it gives.

    Shapes are not checked here: only ops in the graph object to them. Neither are dtypes: the
    runtime refuses a wrong one.

    Attributes:
        signature: Name of the signature to run.
        feeds: Tensor name -> value.
        fetches: Names of the tensors to fetch.
    """

    def __init__(self, model: LoadedModel, request: predict_pb2.PredictRequest) -> None:
        """Checks a request against the signature.

        Args:
            model: The version to run.
            request: The request.

        Raises:
            ServingError: If the request does not fit the signature.
        """
        self._model = model
        self.signature, definition = find_signature(model, request.model_spec.signature_name)
        self.feeds = _feeds(definition, request)
        self._aliases = _outputs(definition, request.output_filter)
        self.fetches = [definition.outputs[alias].name for alias in self._aliases]

    def reply(
        self, results: Sequence[Any], *, as_content: bool = False
    ) -> predict_pb2.PredictResponse:
        """The reply with the fetched values, as ``tensor_content`` or in typed fields."""
        response = predict_pb2.PredictResponse()
        fill_model_spec(response.model_spec, self._model, self.signature)
        for alias, value in zip(self._aliases, results, strict=True):
            tensors.fill_proto(response.outputs[alias], value, as_content=as_content)
        return response


def find_signature(model: LoadedModel, name: str) -> tuple[str, meta_graph_pb2.SignatureDef]:
    """Looks a signature up; an empty name stands for ``serving_default``."""
    name = name or DEFAULT_SIGNATURE
    signature = model.signatures.get(name)
    if signature is None:
        raise ServingError(Code.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
    return name, signature


def fill_model_spec(spec: model_pb2.ModelSpec, model: LoadedModel, signature: str) -> None:
    """Says in a reply which version and signature gave it."""
    spec.name = model.name
    spec.version.value = model.version
    spec.signature_name = signature


def _feeds(
    signature: meta_graph_pb2.SignatureDef, request: predict_pb2.PredictRequest
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
            feeds[name] = tensors.to_array(proto)
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
