"""GetModelMetadata, GetModelStatus, the version policies at rest, and grpc.health.v1."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2

from vatt_tf.serving.conformance.cases.connection import Server, predict_request
from vatt_tf.serving.conformance.models import SERVED
from vatt_tf.serving.conformance.suite import Group, NotApplicable, accepted, equal, refused

CODE = grpc.StatusCode
FIELD = "signature_def"

metadata = Group("metadata")
status = Group("status")
health = Group("health")


def _metadata(model: str, *fields: str) -> get_model_metadata_pb2.GetModelMetadataRequest:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    request.model_spec.name = model
    return request


def _status(model: str, version: int | None = None) -> get_model_status_pb2.GetModelStatusRequest:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = model
    if version is not None:
        request.model_spec.version.value = version
    return request


@metadata.case()
def signatures(server: Server) -> None:
    """The field signature_def holds every signature, the init operation's among them."""
    response = accepted(server.metadata(_metadata("half", FIELD)))
    equal((response.model_spec.name, response.model_spec.version.value), ("half", 2), "model_spec")
    equal(list(response.metadata), [FIELD], "metadata fields")
    found = get_model_metadata_pb2.SignatureDefMap()
    response.metadata[FIELD].Unpack(found)
    expected = {"serving_default", "both", "add", "scalar", "rows", "missing_file"}
    equal(set(found.signature_def), expected | {"__saved_model_init_op"}, "signatures")
    both = found.signature_def["both"]
    equal((sorted(both.inputs), sorted(both.outputs)), (["x"], ["twice", "y"]), "signature both")


@metadata.case()
def unknown_field(server: Server) -> None:
    """Another field: INVALID_ARGUMENT."""
    message = "Metadata field foo is not supported"
    refused(server.metadata(_metadata("half", "foo")), CODE.INVALID_ARGUMENT, message)


@metadata.case()
def no_field(server: Server) -> None:
    """No field: INVALID_ARGUMENT."""
    message = "GetModelMetadataRequest must specify at least one metadata_field"
    refused(server.metadata(_metadata("half")), CODE.INVALID_ARGUMENT, message)


@metadata.case()
def unknown_model(server: Server) -> None:
    """An unknown model: NOT_FOUND, as for Predict."""
    message = "Servable not found for request: Latest(no_such_model)"
    refused(server.metadata(_metadata("no_such_model", FIELD)), CODE.NOT_FOUND, message)


@status.case()
def policies(server: Server) -> None:
    """The policies latest 1 (the default), latest N, all and specific serve what they say."""
    for model, expected in SERVED.items():
        states = server.states(model)
        available = [version for version, state in states.items() if state == "AVAILABLE"]
        equal(available, expected, f"available versions of {model}, newest first")


@status.case()
def version_names(server: Server) -> None:
    """Leading zeros are fine (0010 is 10); folders that are no numbers are left alone."""
    equal(server.states("names"), {10: "AVAILABLE"}, "versions of names")
    response = accepted(server.predict(predict_request("names")))
    equal(response.model_spec.version.value, 10, "version in the reply")


@status.case()
def older_version_is_not_served(server: Server) -> None:
    """A version outside the policy is not there: NOT_FOUND."""
    message = "Servable not found for request: Specific(latest, 1)"
    refused(server.predict(predict_request("latest", version=1)), CODE.NOT_FOUND, message)


@status.case()
def all_fine(server: Server) -> None:
    """An available version has an error_code OK and no message."""
    found = [
        (item.version, item.status.error_code, item.status.error_message)
        for item in server.versions("half")
    ]
    equal(found, [(2, 0, ""), (1, 0, "")], "version, error_code and error_message")


@status.case()
def one_version(server: Server) -> None:
    """A version in the request selects it."""
    listed = accepted(server.status(_status("half", 1))).model_version_status
    equal([item.version for item in listed], [1], "versions")


@status.case()
def unknown_version(server: Server) -> None:
    """An unknown version: NOT_FOUND."""
    message = "Could not find version 99 of model half"
    refused(server.status(_status("half", 99)), CODE.NOT_FOUND, message)


@status.case()
def unknown_name(server: Server) -> None:
    """An unknown or empty model name: NOT_FOUND."""
    for name in ("no_such_model", ""):
        message = f"Could not find any versions of model {name}"
        reply = server.status(_status(name))
        refused(reply, CODE.NOT_FOUND, parts=[message.rstrip()])


@status.case()
def label_is_ignored(server: Server) -> None:
    """A label in the request is ignored, even an unknown one: all versions come back."""
    request = _status("half")
    request.model_spec.version_label = "no_such_label"
    listed = accepted(server.status(request)).model_version_status
    equal([item.version for item in listed], [2, 1], "versions")


@status.case()
def no_model_spec(server: Server) -> None:
    """No model_spec: INVALID_ARGUMENT."""
    request = get_model_status_pb2.GetModelStatusRequest()
    refused(server.status(request), CODE.INVALID_ARGUMENT, "Missing ModelSpec")


@health.case()
def services(server: Server) -> None:
    """Where health is on: "", PredictionService, ModelService serve, others are NOT_FOUND."""
    check = server.channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    first = server.call(check, health_pb2.HealthCheckRequest())
    if first.code is CODE.UNIMPLEMENTED:
        raise NotApplicable("the health service is off")
    serving = health_pb2.HealthCheckResponse.SERVING
    for service in ("", "PredictionService", "ModelService"):
        reply = server.call(check, health_pb2.HealthCheckRequest(service=service))
        equal(accepted(reply).status, serving, f"status of {service!r}")
    reply = server.call(check, health_pb2.HealthCheckRequest(service="NoSuchService"))
    refused(reply, CODE.NOT_FOUND, "service name unknown")
