"""PredictionService.Predict: addressing, inputs, outputs, errors, sizes."""

from __future__ import annotations

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import predict_pb2

from vatt_tf.serving.conformance.cases.connection import Server, floats, predict_request, values
from vatt_tf.serving.conformance.suite import Disagreement, Group, accepted, equal, refused

CODE = grpc.StatusCode
# gRPC's own limit for messages where a client sets none.
DEFAULT_LIMIT = 4 * 1024 * 1024

predict = Group("predict")


@predict.case()
def default_signature(server: Server) -> None:
    """Without a signature name serving_default runs, and the reply says so."""
    response = accepted(server.predict(predict_request("half", {"x": floats(0, 4)})))
    equal(values(response), {"y": [3.0, 5.0]}, "outputs")
    spec = response.model_spec
    equal((spec.name, spec.version.value), ("half", 2), "name and version in the reply")
    equal(spec.signature_name, "serving_default", "signature_name in the reply")


@predict.case()
def chosen_version(server: Server) -> None:
    """A version in the request selects that version, also an older one."""
    response = accepted(server.predict(predict_request(version=1)))
    equal(values(response), {"y": [2.5]}, "outputs")
    equal(response.model_spec.version.value, 1, "version in the reply")


@predict.case()
def chosen_signature(server: Server) -> None:
    """All outputs come back when output_filter is empty; the reply names the signature."""
    response = accepted(server.predict(predict_request(signature="both")))
    equal(values(response), {"y": [3.5], "twice": [7.0]}, "outputs")
    equal(response.model_spec.signature_name, "both", "signature_name in the reply")


@predict.case()
def typed_fields(server: Server) -> None:
    """Output tensors come as typed fields (float_val), not as tensor_content."""
    tensor = accepted(server.predict(predict_request())).outputs["y"]
    equal(tensor.dtype, types_pb2.DT_FLOAT, "dtype")
    equal([dim.size for dim in tensor.tensor_shape.dim], [1], "shape")
    equal((list(tensor.float_val), tensor.tensor_content), ([3.5], b""), "float_val and content")


@predict.case()
def string_output(server: Server) -> None:
    """String outputs carry any bytes."""
    texts = [b"a red circle", "grün".encode(), b"\xff\x00"]
    response = accepted(server.predict(predict_request("words", {"text": texts})))
    equal(list(response.outputs["text_bytes"].string_val), texts, "string_val")
    equal(list(response.outputs["length"].int_val), [12, 5, 2], "int_val")


@predict.case()
def no_model_spec(server: Server) -> None:
    """No model_spec: INVALID_ARGUMENT."""
    request = predict_pb2.PredictRequest()
    refused(server.predict(request), CODE.INVALID_ARGUMENT, "Missing ModelSpec")


@predict.case()
def empty_name(server: Server) -> None:
    """An empty model name: INVALID_ARGUMENT."""
    message = "ModelSpec has no name specified."
    refused(server.predict(predict_request("")), CODE.INVALID_ARGUMENT, message)


@predict.case()
def unknown_model(server: Server) -> None:
    """An unknown model: NOT_FOUND."""
    message = "Servable not found for request: Latest(no_such_model)"
    refused(server.predict(predict_request("no_such_model")), CODE.NOT_FOUND, message)


@predict.case()
def unknown_version(server: Server) -> None:
    """An unknown version: NOT_FOUND."""
    message = "Servable not found for request: Specific(half, 99)"
    refused(server.predict(predict_request(version=99)), CODE.NOT_FOUND, message)


@predict.case()
def unknown_label(server: Server) -> None:
    """An unknown version label: INVALID_ARGUMENT."""
    message = "Unrecognized servable version label: no_such_label"
    reply = server.predict(predict_request(label="no_such_label"))
    refused(reply, CODE.INVALID_ARGUMENT, message)


@predict.case()
def unknown_signature(server: Server) -> None:
    """An unknown signature: FAILED_PRECONDITION."""
    message = 'Serving signature key "zzz" not found.'
    reply = server.predict(predict_request(signature="zzz"))
    refused(reply, CODE.FAILED_PRECONDITION, message)


@predict.case()
def no_input(server: Server) -> None:
    """No input where one is asked for: INVALID_ARGUMENT with both lists of names."""
    message = (
        "input size does not match signature: 0!=1 len({}) != len({x}). "
        "Sent extra: {}. Missing but required: {x}."
    )
    refused(server.predict(predict_request("half", {})), CODE.INVALID_ARGUMENT, message)


@predict.case()
def missing_input(server: Server) -> None:
    """One input of two: INVALID_ARGUMENT that names the missing one."""
    reply = server.predict(predict_request("half", {"a": floats(1)}, signature="add"))
    parts = ("input size does not match signature: 1!=2", "Missing but required: {b}.")
    refused(reply, CODE.INVALID_ARGUMENT, parts=parts)


@predict.case()
def extra_input(server: Server) -> None:
    """One input too many: INVALID_ARGUMENT that names it."""
    one = floats(1)
    parts = ("input size does not match signature: 2!=1", "Sent extra: {q}.")
    reply = server.predict(predict_request("half", {"q": one, "x": one}))
    refused(reply, CODE.INVALID_ARGUMENT, parts=parts)


@predict.case()
def wrong_alias(server: Server) -> None:
    """The right number of inputs with a wrong name: INVALID_ARGUMENT."""
    start = (
        "Signature input alias: x(feed name: serving_default_x:0) not found in request and no "
        "default value provided. Inputs expected to be in the request {q}, or default input alias"
    )
    reply = server.predict(predict_request("half", {"q": floats(1)}))
    refused(reply, CODE.INVALID_ARGUMENT, parts=[start])


@predict.case("no batching")
def wrong_dtype(server: Server) -> None:
    """Another dtype is refused and never cast: INVALID_ARGUMENT."""
    reply = server.predict(predict_request("half", {"x": np.array([1], np.int32)}))
    message = "Expects arg[0] to be float but int32 is provided"
    refused(reply, CODE.INVALID_ARGUMENT, parts=[message])


@predict.case("no batching")
def wider_dtype(server: Server) -> None:
    """Not even float64 is cast to float: INVALID_ARGUMENT."""
    reply = server.predict(predict_request("half", {"x": np.array([1], np.float64)}))
    message = "Expects arg[0] to be float but double is provided"
    refused(reply, CODE.INVALID_ARGUMENT, parts=[message])


@predict.case("no batching")
def unchecked_shapes(server: Server) -> None:
    """Shapes are not checked against the signature: a matrix, a scalar, nothing all run."""
    for given in (np.ones([2, 2]), np.float32(1), np.ones([0])):
        response = accepted(server.predict(predict_request("half", {"x": np.float32(given)})))
        expected = (given / 2 + 3).tolist()
        equal(values(response), {"y": expected}, f"outputs for shape {np.shape(given)}")


@predict.case()
def broken_tensor(server: Server) -> None:
    """A TensorProto whose content does not fill its shape: INVALID_ARGUMENT."""
    request = predict_request("half", {"x": floats(1, 2)})
    request.inputs["x"].tensor_content = b"\0\0\0"
    refused(server.predict(request), CODE.INVALID_ARGUMENT, "tensor parsing error: x")


@predict.case()
def chosen_output(server: Server) -> None:
    """output_filter selects outputs."""
    request = predict_request(signature="both", outputs=["twice"])
    equal(values(accepted(server.predict(request))), {"twice": [7.0]}, "outputs")


@predict.case()
def unknown_output(server: Server) -> None:
    """An unknown name in output_filter: INVALID_ARGUMENT with the known ones."""
    request = predict_request(signature="both", outputs=["zz"])
    message = (
        "output tensor alias not found in signature: zz Outputs expected to be in the set "
        "{twice,y}."
    )
    refused(server.predict(request), CODE.INVALID_ARGUMENT, message)


@predict.case()
def output_twice(server: Server) -> None:
    """The same name twice in output_filter: INVALID_ARGUMENT."""
    request = predict_request(outputs=["y", "y"])
    message = "duplicate output tensor alias: y"
    refused(server.predict(request), CODE.INVALID_ARGUMENT, message)


@predict.case()
def kernel_error(server: Server) -> None:
    """An operation that objects to its input: its own code and message."""
    request = predict_request("words", {"text": [b"many"]}, signature="number")
    part = "StringToNumberOp could not correctly convert string: many"
    refused(server.predict(request), CODE.INVALID_ARGUMENT, parts=[part])


@predict.case()
def kernel_code(server: Server) -> None:
    """An operation's code is handed on as it is, here NOT_FOUND of a file."""
    request = predict_request(signature="missing_file")
    refused(server.predict(request), CODE.NOT_FOUND, parts=["/no/such/folder/"])


@predict.case()
def method_name_is_ignored(server: Server) -> None:
    """Predict runs a signature whose method is regress."""
    example = tf.train.Example()
    example.features.feature["x"].float_list.value.append(3.0)
    inputs = {"inputs": [example.SerializeToString()]}
    response = accepted(server.predict(predict_request("examples", inputs, signature="regress")))
    equal(values(response), {"outputs": [[3.5]]}, "outputs")


@predict.case()
def cut_message(server: Server) -> None:
    """A message over 1024 characters is cut and ends in ...TRUNCATED."""
    reply = server.predict(predict_request("m" * 5000))
    refused(reply, CODE.NOT_FOUND, parts=["Servable not found for request: Latest(mmm"])
    if not reply.message.endswith("...TRUNCATED") or len(reply.message) > 1100:
        raise Disagreement(f"expected 1024 characters and ...TRUNCATED, found {reply.message!r}")


@predict.case()
def large_request(server: Server) -> None:
    """The server takes messages far over gRPC's default limit of 4 MiB."""
    row = np.zeros([1, 2 * DEFAULT_LIMIT // 4 + 1], np.float32)
    response = accepted(server.predict(predict_request("half", {"x": row})))
    equal(len(response.outputs["y"].float_val), row.size, "values in the reply")


@predict.case()
def large_reply(server: Server) -> None:
    """A client with gRPC's default limit refuses a reply over 4 MiB: RESOURCE_EXHAUSTED."""
    row = np.zeros([1, DEFAULT_LIMIT // 4 + 1], np.float32)
    with grpc.insecure_channel(server.target) as channel:
        method = channel.unary_unary(
            "/tensorflow.serving.PredictionService/Predict",
            request_serializer=predict_pb2.PredictRequest.SerializeToString,
            response_deserializer=predict_pb2.PredictResponse.FromString,
        )
        reply = server.call(method, predict_request("half", {"x": row}))
    refused(reply, CODE.RESOURCE_EXHAUSTED)


@predict.case()
def no_session_service(server: Server) -> None:
    """There is no SessionService: UNIMPLEMENTED."""
    method = server.channel.unary_unary("/tensorflow.serving.SessionService/SessionRun")
    refused(server.call(method, b""), CODE.UNIMPLEMENTED)


@predict.case()
def no_reflection(server: Server) -> None:
    """There is no server reflection: UNIMPLEMENTED."""
    path = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    method = server.channel.stream_stream(path)
    reply = server.call(
        lambda request, timeout: list(method(iter([request]), timeout=timeout)), b""
    )
    refused(reply, CODE.UNIMPLEMENTED)
