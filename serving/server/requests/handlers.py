"""Request handlers of all entry points: find the version, measure and count requests."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterator
from typing import Any

from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from vatt_tf.serving.server.models.manager import ModelManager
from vatt_tf.serving.server.models.options import ServerOptions
from vatt_tf.serving.server.models.status import Code, ServingError, from_exception, invalid
from vatt_tf.serving.server.requests import inference, predict, tensors
from vatt_tf.serving.server.requests.metrics import Metrics
from vatt_tf.wording import count_of

GRPC, REST = "GRPC", "REST"

_SIGNATURE_DEF = "signature_def"
_UNSUPPORTED_CONFIG = (
    "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is "
    "currently supported"
)


class Handlers:
    """Request handlers, shared by gRPC and REST. All methods are thread-safe.

    All methods raise :class:`ServingError`; ``timeout`` is the time left in seconds, or None;
    ``entrypoint`` is ``GRPC`` or ``REST``.
    """

    def __init__(
        self, manager: ModelManager, metrics: Metrics, options: ServerOptions | None = None
    ) -> None:
        """Creates the handlers of a server.

        Args:
            manager: Holds the models.
            metrics: Metrics of the requests for models that are served.
            options: Limits of a request, and the form of the replies.
        """
        self.manager = manager
        self.metrics = metrics
        self._options = options or ServerOptions()
        self._read = functools.partial(
            tensors.to_array,
            max_strings=self._options.max_request_strings,
            max_filled_bytes=self._options.max_filled_bytes,
        )

    def predict(
        self, request: predict_pb2.PredictRequest, timeout: float | None, entrypoint: str = GRPC
    ) -> predict_pb2.PredictResponse:
        """PredictionService.Predict."""
        _require_spec(request)
        with self._use(request.model_spec, "Predict", entrypoint) as model:
            as_content = self._options.enable_serialization_as_tensor_content
            return predict.predict(model, request, timeout, as_content=as_content, read=self._read)

    def classify(
        self,
        request: classification_pb2.ClassificationRequest,
        timeout: float | None,
        entrypoint: str = GRPC,
    ) -> classification_pb2.ClassificationResponse:
        """PredictionService.Classify."""
        _require_spec(request)
        self._count_examples(request.model_spec, request)
        with self._use(request.model_spec, "Classify", entrypoint) as model:
            return inference.classify(model, request, timeout)

    def regress(
        self,
        request: regression_pb2.RegressionRequest,
        timeout: float | None,
        entrypoint: str = GRPC,
    ) -> regression_pb2.RegressionResponse:
        """PredictionService.Regress."""
        _require_spec(request)
        self._count_examples(request.model_spec, request)
        with self._use(request.model_spec, "Regress", entrypoint) as model:
            return inference.regress(model, request, timeout)

    def multi_inference(
        self, request: inference_pb2.MultiInferenceRequest, timeout: float | None
    ) -> inference_pb2.MultiInferenceResponse:
        """PredictionService.MultiInference."""
        spec = inference.multi_inference_spec(request)
        self._count_examples(spec, request)
        with self._use(spec, "MultiInference", GRPC) as model:
            return inference.multi_inference(model, request, timeout)

    def model_metadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, timeout: float | None = None
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """PredictionService.GetModelMetadata."""
        del timeout  # Nothing is run.
        _require_spec(request)
        if not request.metadata_field:
            invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != _SIGNATURE_DEF:
                invalid(f"Metadata field {field} is not supported")
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        signatures = get_model_metadata_pb2.SignatureDefMap()
        with self.manager.use(request.model_spec) as model:
            response.model_spec.name = model.name
            response.model_spec.version.value = model.version
            for name, signature in model.signatures.items():
                signatures.signature_def[name].CopyFrom(signature)
        response.metadata[_SIGNATURE_DEF].Pack(signatures)
        return response

    def input_infos(
        self, spec: model_pb2.ModelSpec, signature_name: str
    ) -> dict[str, meta_graph_pb2.TensorInfo]:
        """Inputs of a signature by alias, for the entry point that has to build tensors itself."""
        name = signature_name or predict.DEFAULT_SIGNATURE
        with self.manager.use(spec) as model:
            signature = model.signatures.get(name)
        if signature is None:
            invalid(f'Serving signature name: "{name}" not found in signature def')
        return dict(signature.inputs)

    def model_status(
        self, request: get_model_status_pb2.GetModelStatusRequest, timeout: float | None = None
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """ModelService.GetModelStatus; ignores a version label of the request."""
        del timeout  # Nothing is run.
        _require_spec(request)
        name = request.model_spec.name
        versions = self.manager.status(name)
        if not versions:
            raise ServingError(Code.NOT_FOUND, f"Could not find any versions of model {name}")
        if request.model_spec.WhichOneof("version_choice") == "version":
            wanted = request.model_spec.version.value
            versions = [version for version in versions if version.number == wanted]
            if not versions:
                raise ServingError(
                    Code.NOT_FOUND, f"Could not find version {wanted} of model {name}"
                )
        response = get_model_status_pb2.GetModelStatusResponse()
        for version in versions:
            entry = response.model_version_status.add(
                version=version.number, state=int(version.state)
            )
            entry.status.SetInParent()
            if version.error is not None:
                entry.status.error_code = version.error.number
                entry.status.error_message = version.error.message
        return response

    def reload_config(
        self, request: model_management_pb2.ReloadConfigRequest, timeout: float | None = None
    ) -> model_management_pb2.ReloadConfigResponse:
        """ModelService.HandleReloadConfigRequest: returns when the new models are available.

        They go on loading after the time of the client.
        """
        if not self._options.enable_config_reload:
            raise ServingError(
                Code.PERMISSION_DENIED,
                "this server takes no configuration from clients (enable_config_reload=false)",
            )
        if request.config.WhichOneof("config") != "model_config_list":
            invalid(_UNSUPPORTED_CONFIG)
        self.manager.apply_config(request.config, timeout)
        response = model_management_pb2.ReloadConfigResponse()
        response.status.SetInParent()
        return response

    @contextlib.contextmanager
    def _use(self, spec: model_pb2.ModelSpec, api: str, entrypoint: str) -> Iterator[Any]:
        """Yields the version of a spec; times and counts the block as a request."""
        started = time.perf_counter()
        try:
            with self.manager.use(spec) as model:
                runtime_started = time.perf_counter()
                yield model
                finished = time.perf_counter()
        except Exception as error:  # Counted with its code, whatever it is.
            failure = from_exception(error)
            # A name that is not served makes no label: clients could make any number of them.
            if self.manager.serves(spec.name):
                self.metrics.request_count.add(spec.name, failure.code.name)
            raise failure from error
        self.metrics.request_count.add(spec.name, "OK")
        self.metrics.runtime_latency.observe(
            (finished - runtime_started) * 1e6, spec.name, api, "TF1"
        )
        self.metrics.request_latency.observe((finished - started) * 1e6, spec.name, api, entrypoint)

    def _count_examples(self, spec: model_pb2.ModelSpec, request: Any) -> None:
        count = inference.count_examples(request.input)
        most = self._options.max_request_strings
        if count > most:
            invalid(
                f"{count_of(count, 'example')}, at most {most} are taken at once "
                "(max_request_strings)"
            )
        shared = request.input.example_list_with_context.context.ByteSize()
        if count * shared > self._options.max_request_bytes:
            invalid(
                f"{count_of(count, 'example')} with a context of {shared} bytes each, at most "
                f"{self._options.max_request_bytes} bytes in all (max_request_bytes)"
            )
        if not self.manager.serves(spec.name):
            return
        self.metrics.example_counts.observe(count, spec.name)
        self.metrics.example_count_total.add(spec.name, by=count)


def _require_spec(request: Any) -> None:
    if not request.HasField("model_spec"):
        invalid("Missing ModelSpec")
