"""The server as a whole where the conformance suite does not look: start, stop, parity, files."""

from __future__ import annotations

import concurrent.futures
import os
import signal
import subprocess
import sys
import threading
import urllib.request

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from tests.serving.server.double import PATIENCE, post, put, request, stub, wait_for
from vatt_tf.errors import UserError
from vatt_tf.serving import __main__ as command
from vatt_tf.serving.server.embedded import start_server
from vatt_tf.serving.server.models import config_files
from vatt_tf.serving.server.models.status import Code, ServingError
from vatt_tf.serving.server.requests import tensors
from vatt_tf.serving.server.requests.metrics import Counter, Histogram


def test_requests_do_not_notice_a_change_of_versions(models, saved):
    """Versions come and go under load: no request fails, each answer is of one of them."""
    with start_server(models, file_system_poll_wait_seconds=0.05, max_num_load_retries=0) as server:
        predict = stub(server).Predict
        stop = threading.Event()

        def client():
            answers = set()
            while not stop.is_set():
                answers.add(predict(request(1.0), timeout=PATIENCE).outputs["y"].float_val[0])
            return answers

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            clients = [pool.submit(client) for _ in range(2)]
            try:
                for version in (2, 3, 4):
                    put(saved, models, version, factor=2 + version % 2)
                    wait_for(lambda v=version: newest(server) == v)
            finally:
                stop.set()
            answers = [one.result(PATIENCE) for one in clients]
        assert all(found <= {2.0, 3.0} for found in answers)
        assert set.union(*answers) == {2.0, 3.0}


def newest(server):
    versions = [v.number for v in server.manager.status("double") if v.state.name == "AVAILABLE"]
    return max(versions)


def test_all_entry_points_agree(exported_models):
    """The same text through the SavedModel, gRPC and REST."""
    value = np.array([b"a red circle moves left", b""], object)
    loaded = tf.saved_model.load(str(exported_models / "text" / "1"))
    expected = loaded.signatures["serving_default"](text=tf.constant(value))
    with start_server({"text": exported_models / "text"}) as server:
        asked = predict_pb2.PredictRequest()
        asked.model_spec.name = "text"
        tensors.fill_proto(asked.inputs["text"], value)
        answer = stub(server).Predict(asked, timeout=PATIENCE)
        rows = [text.decode() for text in value]
        status, document = post(server, "/v1/models/text:predict", {"instances": rows})
    assert status == 200
    for name, output in expected.items():
        served = tensors.to_array(answer.outputs[name])
        np.testing.assert_allclose(served, output.numpy(), rtol=0, atol=1e-6)
        rest = [row[name] for row in document["predictions"]]
        np.testing.assert_allclose(rest, output.numpy(), rtol=0, atol=1e-6)


def test_overload_is_refused(models):
    with start_server(models, grpc_max_threads=1) as server:
        predict = stub(server).Predict
        held = server._grpc._slots  # a call that runs has it
        assert held.acquire(timeout=PATIENCE)
        with pytest.raises(grpc.RpcError) as caught:
            predict(request(1.0), timeout=PATIENCE)
        held.release()
        assert caught.value.code() == Code.RESOURCE_EXHAUSTED
        assert caught.value.details() == "Server Threadpool Exhausted"
        assert predict(request(1.0), timeout=PATIENCE).outputs["y"].float_val[0] == 2


def test_start_that_cannot_work(tmp_path, models):
    with pytest.raises(UserError, match="no such folder"):
        start_server(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="vatt_tf.export"):
        start_server(tmp_path / "empty")
    with start_server(models) as server, pytest.raises(UserError, match="take another port"):
        start_server(models, port=server.port)
    (models / "double" / "1" / "saved_model.pb").unlink()
    with pytest.raises(ServingError, match="1 servable.*NOT_FOUND: Could not find SavedModel"):
        start_server(models, max_num_load_retries=0)


@pytest.mark.check
def test_command_serves_and_ends_with_sigterm(models, tmp_path):
    monitoring = tmp_path / "monitoring.config"
    monitoring.write_text("prometheus_config { enable: true }")
    process = subprocess.Popen(
        [sys.executable, "-m", "vatt_tf.serving", f"--models={models}", "--port=0", "--rest_port=0"]
        + [f"--monitoring_config_file={monitoring}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        lines = [process.stdout.readline() for _ in range(2)]
        port, rest_port = (int(line.split("localhost:")[1].split()[0]) for line in lines)
        channel = grpc.insecure_channel(f"localhost:{port}")
        predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
        assert list(predict(request(1.0), timeout=PATIENCE).outputs["y"].float_val) == [2.0]
        url = f"http://localhost:{rest_port}/monitoring/prometheus/metrics"
        with urllib.request.urlopen(url, timeout=PATIENCE) as reply:
            metrics = reply.read().decode()
        assert ':tensorflow:serving:request_count{model_name="double",status="OK"} 1' in metrics
    finally:
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0 and "Shutting down" in rest


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        ([], "expected one of --models"),
        (["--models=a", "--model_base_path=/b"], "--models and --model_base_path"),
        (["--models=a", "--batching_parameters_file=b"], "needs --enable_batching"),
        (["--models=a", "--monitoring_config_file=b"], "needs --rest_port"),
        (["--models=a", "--port=70000"], "expected a port"),
        (["--models=a", "--enable_batchin"], "did you mean --enable_batching?"),
        (["--model_config_file=/does/not/exist"], "cannot be read"),
        (["--models=/does/not/exist"], "no such folder"),
    ],
)
def test_wrong_flags(flags, part, capsys):
    try:
        code = command.main(flags)
    except SystemExit as exit_:
        code = exit_.code
    assert code == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and part in error


def test_relative_base_path_exits_as_a_model_server(capsys):
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    assert command.main(["--model_base_path=relative"]) == 255
    assert "Failed to start server. Error: INVALID_ARGUMENT" in capsys.readouterr().err
    assert {number: signal.getsignal(number) for number in before} == before


def test_batching_file(tmp_path):
    file = tmp_path / "batching.config"
    file.write_text(
        "max_batch_size { value: 8 } batch_timeout_micros { value: 500 }\n"
        "allowed_batch_sizes: 2 allowed_batch_sizes: 8 pad_variable_length_inputs: true"
    )
    options = config_files.read_batching(file)
    assert (options.max_batch_size, options.batch_timeout_micros) == (8, 500)
    assert options.allowed_batch_sizes == (2, 8) and options.pad_variable_length_inputs
    assert options.max_enqueued_batches == 10


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("max_batch_size: 8", "line 1"),
        ("max_batchsize { value: 8 }", "max_batchsize"),
        ("max_batch_size { value: 8 } allowed_batch_sizes: 4", "must equal max_batch_size"),
        ("max_batch_size { value: 4 } allowed_batch_sizes: [4, 4]", "must ascend"),
        ("num_batch_threads { value: 0 }", "num_batch_threads must be >= 1"),
    ],
)
def test_wrong_batching_files(tmp_path, text, part):
    file = tmp_path / "batching.config"
    file.write_text(text)
    with pytest.raises(UserError, match=part) as caught:
        config_files.read_batching(file)
    assert str(file) in str(caught.value)


def test_per_model_batching(models):
    (models / "double" / "1" / "batching_params.pbtxt").write_text("max_batch_size { value: 2 }")
    from vatt_tf.serving.server.models.options import BatchingOptions

    options = {"batching": BatchingOptions(), "enable_per_model_batching_parameters": True}
    with start_server(models, **options) as server:
        predict = stub(server).Predict
        assert list(predict(request(1, 2), timeout=PATIENCE).outputs["y"].float_val) == [2, 4]
        with pytest.raises(grpc.RpcError, match="maximum input batch size 2"):
            predict(request(1, 2, 3), timeout=PATIENCE)


def test_metrics_text():
    counter = Counter(":tensorflow:serving:request_count", ("model_name", "status"))
    counter.add('a"b\\', "OK", by=2)
    assert counter.lines() == [
        "# TYPE :tensorflow:serving:request_count counter",
        ':tensorflow:serving:request_count{model_name="a\\"b\\\\",status="OK"} 2',
    ]
    histogram = Histogram("h", ("m",), (1.0, 2.0))
    for value in (0.5, 1.0, 5.0):
        histogram.observe(value, "x")
    assert histogram.lines()[1:] == [
        'h_bucket{m="x",le="1"} 2',
        'h_bucket{m="x",le="2"} 2',
        'h_bucket{m="x",le="+Inf"} 3',
        'h_sum{m="x"} 6.5',
        'h_count{m="x"} 3',
    ]


def test_help_does_not_import_tensorflow():
    code = (
        "import sys; from vatt_tf.serving import __main__ as m\n"
        "from vatt_tf.serving.benchmarks import latency as b\n"
        "m.build_parser(); b.build_parser(); assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=dict(os.environ))
