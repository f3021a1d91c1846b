"""Short requests that cost much, clients that hold on: a good client notices nothing."""

from __future__ import annotations

import contextlib
import gzip
import logging
import socket
import threading
import time
import urllib.request

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
)

from tests.serving.server.double import PATIENCE, post, put, request, stub, wait_for
from vatt_tf.serving.server.embedded import start_server
from vatt_tf.serving.server.models import model_config
from vatt_tf.serving.server.models.options import BatchingOptions
from vatt_tf.serving.server.models.status import Code

PREDICT = "/tensorflow.serving.PredictionService/Predict"
CHECK = "/grpc.health.v1.Health/Check"
METRICS = "/metrics"
LIMITS = {
    "grpc_max_threads": 2,
    "max_rest_body_bytes": 100_000,
    "max_connections": 12,
    "connection_idle_seconds": 0.5,
    "metrics_path": METRICS,
    "file_system_poll_wait_seconds": 0.05,
}


@pytest.fixture(scope="module")
def models(tmp_path_factory, saved):
    folder = tmp_path_factory.mktemp("hostile")
    put(saved, folder, 1, factor=2)
    return folder


@pytest.fixture(scope="module")
def server(models):
    with start_server(models, **LIMITS) as running:
        yield running


def good(server):
    assert list(stub(server).Predict(request(1.0), timeout=PATIENCE).outputs["y"].float_val) == [2]
    if server.rest_port is not None:
        found = post(server, "/v1/models/double:predict", {"instances": [1.0]})
        assert found == (200, {"predictions": [2.0]})


def error_of(call, *args, **kwargs):
    with pytest.raises(grpc.RpcError) as caught:
        call(*args, **kwargs)
    return caught.value.code(), caught.value.details()


def tensor_request(dtype, *shape):
    asked = predict_pb2.PredictRequest()
    asked.model_spec.name = "double"
    asked.inputs["x"].dtype = dtype
    for size in shape:
        asked.inputs["x"].tensor_shape.dim.add(size=size)
    return asked


@pytest.mark.parametrize("deadline", [PATIENCE, None])
def test_values_that_a_message_leaves_out(server, deadline):
    predict = stub(server).Predict
    for dtype, size, part in (
        (types_pb2.DT_STRING, 400_000, "x: 400000 strings, at most 4096"),
        (types_pb2.DT_FLOAT, 300_000, "x: 0 values for the shape [300000]: 1200000 bytes would be"),
    ):
        asked = tensor_request(dtype, size)
        assert asked.ByteSize() < 40
        code, details = error_of(predict, asked, timeout=deadline)
        assert code == Code.INVALID_ARGUMENT and part in details
    answer = predict(tensor_request(types_pb2.DT_FLOAT, 3), timeout=deadline)
    assert list(answer.outputs["y"].float_val) == [0, 0, 0]


def test_a_context_is_not_copied_into_any_number_of_examples(server):
    asked = classification_pb2.ClassificationRequest()
    asked.model_spec.name = "double"
    examples = asked.input.example_list_with_context
    examples.context.features.feature["x"].bytes_list.value.append(bytes(1_000_000))
    for _ in range(1000):
        examples.examples.add()
    code, details = error_of(stub(server).Classify, asked, timeout=PATIENCE)
    assert code == Code.INVALID_ARGUMENT and "1,000 examples with a context of" in details


def test_a_small_body_that_unpacks_to_a_large_one(server):
    bomb = gzip.compress(bytes(30_000_000))
    assert len(bomb) < 100_000
    packed = {"Content-Encoding": "gzip"}
    path = "/v1/models/double:predict"
    status, document = post(server, path, bomb, packed)
    assert status == 429 and "more than 100000 bytes (max_rest_body_bytes)" in document["error"]
    assert post(server, "/v1/models/double:nothing", bomb, packed)[0] == 400
    assert post(server, path, bytes(100_001))[0] == 429
    status, document = post(server, path, gzip.compress(b'{"instances": [1]}')[:-9], packed)
    assert status == 400 and "ends in the middle" in document["error"]
    assert post(server, path, b'{"instances": [1]}', packed)[0] == 400
    document = {"predictions": [2.0]}
    assert post(server, path, gzip.compress(b'{"instances": [1]}'), packed) == (200, document)


@contextlib.contextmanager
def connections(port, count, data=b""):
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(count):
            one = stack.enter_context(socket.create_connection(("localhost", port)))
            with contextlib.suppress(OSError):  # it may be closed already
                one.sendall(data)
            found.append(one)
        yield found


def is_closed(connection):
    connection.settimeout(PATIENCE)
    with contextlib.suppress(ConnectionError):
        while connection.recv(1000):
            pass
    return True


@pytest.mark.parametrize(
    "data", [b"", b"POST /v1/models/double:predict HTTP/1.1\r\nContent-Length: 9\r\n\r\n{"]
)
def test_connections_that_stay(server, data):
    """Of many idle ones the oldest make room; those that are left end after some time."""
    with connections(server.rest_port, 40, data) as found:
        good(server)
        assert is_closed(found[0])
        if not data:
            assert is_closed(found[-1])


def test_a_header_that_trickles(server):
    with connections(server.rest_port, 1, b"GET /v1/models/double HTTP/1.1\r\n") as (slow,):
        end = time.monotonic() + PATIENCE
        with pytest.raises(OSError):
            while time.monotonic() < end:
                slow.sendall(b"X: y\r\n")
                time.sleep(0.1)


def test_idle_connections_to_grpc(server):
    with connections(server.port, 40) as found:
        assert is_closed(found[-1])  # beyond the limit
        assert is_closed(found[0])
        good(server)


def test_calls_that_send_no_message(server):
    """More of them than there are threads for calls: they have a second, and take no slot."""
    with grpc.insecure_channel(f"localhost:{server.port}") as channel:
        ended = threading.Event()

        def nothing():
            ended.wait(PATIENCE)
            yield from ()

        calls = [channel.stream_unary(method) for method in (PREDICT, CHECK)]
        waiting = [call.future(nothing(), timeout=PATIENCE) for call in calls for _ in range(20)]
        wait_for(lambda: len(server._grpc._arriving._calls) == 40)
        good(server)
        assert {one.exception(PATIENCE).code() for one in waiting} == {Code.CANCELLED}
        ended.set()


def test_health(models):
    with start_server(models, rest_port=None) as server:
        with grpc.insecure_channel(f"localhost:{server.port}") as channel:
            health = health_pb2_grpc.HealthStub(channel)
            named = health_pb2.HealthCheckRequest
            states = health_pb2.HealthCheckResponse
            assert health.Check(named(service="ModelService")).status == states.SERVING
            assert error_of(health.Check, named(service="x"))[0] == Code.NOT_FOUND
            watched, unknown = health.Watch(named()), health.Watch(named(service="x"))
            assert next(unknown).status == states.SERVICE_UNKNOWN
            assert next(watched).status == states.SERVING
            unknown.cancel()
            server.stop()
            assert [one.status for one in watched] == [states.NOT_SERVING]


def test_names_that_nobody_serves_become_no_time_series(server):
    def page():
        url = f"http://localhost:{server.rest_port}{METRICS}"
        with urllib.request.urlopen(url, timeout=PATIENCE) as reply:
            return reply.read().decode()

    good(server)
    before = len(page().splitlines())
    asked = request(1.0)
    examples = classification_pb2.ClassificationRequest()
    for index in range(5):
        asked.model_spec.name = examples.model_spec.name = f"{index}" + "n" * 50_000
        code, details = error_of(stub(server).Predict, asked, timeout=PATIENCE)
        assert code == Code.NOT_FOUND and details.endswith("n...TRUNCATED")
        assert error_of(stub(server).Classify, examples, timeout=PATIENCE)[0] == Code.NOT_FOUND
        assert post(server, f"/v1/models/z{index}:predict", {"instances": [1]})[0] == 404
    assert len(page().splitlines()) == before
    asked.model_spec.version.value = 77
    asked.model_spec.name = "double"
    error_of(stub(server).Predict, asked, timeout=PATIENCE)
    assert 'request_count{model_name="double",status="NOT_FOUND"} 1' in page()


def test_a_message_is_cut_by_its_bytes(server):
    asked = request(1.0)
    asked.model_spec.name = "😀" * 1024
    code, details = error_of(stub(server).Predict, asked, timeout=PATIENCE)
    assert code == Code.NOT_FOUND and details.endswith("😀...TRUNCATED")
    assert len(details.encode()) <= 1024 + len("...TRUNCATED")


def reload_of(server, folders):
    channel = grpc.insecure_channel(f"localhost:{server.port}")
    asked = model_management_pb2.ReloadConfigRequest(config=model_config.models_config(folders))
    method = model_service_pb2_grpc.ModelServiceStub(channel).HandleReloadConfigRequest
    return method, asked


def test_reloads_that_wait_for_ever(server, models, tmp_path):
    """Calls without a deadline for a folder that is not there: another reload mends it."""
    fine = {"double": str(models / "double")}
    method, missing = reload_of(server, {**fine, "late": str(tmp_path / "late")})
    waiting = [method.future(missing) for _ in range(30)]
    wait_for(lambda: sum(one.done() for one in waiting) == 14)
    told = {one.exception().details() for one in waiting if one.done()}
    assert told == {"the configuration is applied; 16 calls wait for models already"}
    good(server)
    # A call that its client gives up makes room for another one.
    given_up = [one for one in waiting if not one.done()][:8]
    for one in given_up:
        one.cancel()
    wait_for(lambda: error_of(method, missing, timeout=0.2)[0] == Code.DEADLINE_EXCEEDED)
    method(reload_of(server, fine)[1], timeout=PATIENCE)
    codes = {one.exception(PATIENCE).code() for one in waiting if one not in given_up}
    assert codes == {Code.RESOURCE_EXHAUSTED, Code.ABORTED}
    good(server)


def test_reload_can_be_switched_off(models):
    with start_server(models, enable_config_reload=False, rest_port=None) as server:
        method, asked = reload_of(server, {})
        assert error_of(method, asked, timeout=PATIENCE)[0] == Code.PERMISSION_DENIED
        good(server)


@pytest.mark.parametrize("deadline", [PATIENCE, None])
def test_waiting_for_a_batch(models, deadline):
    """A call without a deadline works; one without rows, or that is given up, holds no slot."""
    batching = BatchingOptions(max_batch_size=4, batch_timeout_micros=20_000)
    limits = {"grpc_max_threads": 1, "max_call_seconds": 30.0, "rest_port": None}
    with start_server(models, batching=batching, **limits) as server:
        good(server)
        predict = stub(server).Predict
        assert list(predict(request(1.0), timeout=deadline).outputs["y"].float_val) == [2]
        assert error_of(predict, request(), timeout=deadline)[0] == Code.DEADLINE_EXCEEDED
        good(server)
    slow = BatchingOptions(max_batch_size=4, batch_timeout_micros=50_000_000)
    with start_server(models, batching=slow, **limits) as server:
        waiting = stub(server).Predict.future(request(1.0), timeout=deadline)
        wait_for(lambda: not server._grpc._slots._value)
        assert error_of(stub(server).Predict, request(1.0))[0] == Code.RESOURCE_EXHAUSTED
        waiting.cancel()
        wait_for(lambda: server._grpc._slots._value)


@pytest.mark.parametrize(
    "lines",
    [b"HELLO\x00 there\r\n\r\n", b"GET / HTTP/1.1\r\nno header\r\n\r\n", b"\x16\x03\x01" * 20],
)
def test_what_is_no_http_writes_one_line(server, lines, caplog):
    with caplog.at_level(logging.INFO), connections(server.rest_port, 1, lines) as (one,):
        assert is_closed(one)
    assert len(caplog.records) <= 1
    for record in caplog.records:
        assert record.exc_info is None and "\n" not in record.getMessage()


@pytest.mark.parametrize(
    ("path", "body", "status", "part"),
    [
        (f"/versions/{'9' * 5000}:predict", {"instances": [1]}, 400, "Failed to convert version"),
        (":predict", {"signature_name": "__saved_model_init_op", "inputs": {}}, 400, "operation"),
        (":predict", b'{"instances": [' + b"[" * 64 + b"1" + b"]" * 65 + b"}", 400, "nested"),
        (":predict", b'{"inputs": ' + b"[" * 70 + b"1" + b"]" * 70 + b"}", 400, "nested"),
        (":predict", b'{"instances": ["\\ud800"]}', 400, "surrogate"),
        (":predict", b'{"signature_name": "\xff", "instances": [1]}', 400, "JSON Parse error"),
        (":predict", b'{"instances": [1e400]}', 400, "too big"),
        (":predict", b'{"instances": [' + b"9" * 400 + b"]}", 400, "too big"),
        (":predict", b'{"instances": [' + b"9" * 5000 + b"]}", 400, "JSON Parse error"),
        (":PREDICT", {"instances": [1]}, 400, "Malformed request"),
        (":predict?a=1", {"instances": [1]}, 400, "Malformed request"),
    ],
)
def test_what_is_wrong_with_the_request_is_said_to_be(server, path, body, status, part):
    found, document = post(server, f"/v1/models/double{path}", body)
    assert found == status and part in document["error"]


def test_ranks_beyond_those_of_numpy_are_refused(server):
    predict = stub(server).Predict
    for rank in (65, 200, 255):
        asked = tensor_request(types_pb2.DT_FLOAT, *[1] * rank)
        assert error_of(predict, asked, timeout=PATIENCE)[0] == Code.INVALID_ARGUMENT
    unknown = tensor_request(types_pb2.DT_FLOAT)
    unknown.inputs["x"].tensor_shape.unknown_rank = True
    unknown.inputs["x"].float_val.append(4.0)
    answer = predict(unknown, timeout=PATIENCE).outputs["y"]
    assert list(answer.float_val) == [8.0] and not answer.tensor_shape.dim
    asked = request(1.0)
    asked.model_spec.signature_name = "__saved_model_init_op"
    asked.ClearField("inputs")
    assert error_of(predict, asked, timeout=PATIENCE)[0] == Code.OUT_OF_RANGE


def test_numbers_are_rounded_as_the_server_of_tensorflow_does(server):
    found = {}
    for text in ("16777217", "1e39", "3.4028235e38", "0.1", "2.05"):
        body = f'{{"instances": [{text}]}}'.encode()
        status, document = post(server, "/v1/models/double:predict", body)
        assert status == 200
        found[text] = document["predictions"][0]
    with np.errstate(over="ignore"):
        expected = {text: float(np.float32(text) * np.float32(2)) for text in found}
    assert found == pytest.approx(expected)
    assert (found["0.1"], found["2.05"]) == (0.2, 4.1)
