"""The conformance suite: the embedded server passes it, a server that does nothing does not."""

from __future__ import annotations

import concurrent.futures
import re
import subprocess
import sys

import grpc
import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from vatt_tf.errors import UserError
from vatt_tf.serving.conformance import __main__ as command
from vatt_tf.serving.conformance import models as models_lib
from vatt_tf.serving.conformance import runner
from vatt_tf.serving.conformance.cases.connection import Server
from vatt_tf.serving.server.embedded import start_server
from vatt_tf.serving.server.models.options import BatchingOptions

# Nothing is served there: port 1 needs rights that no server of ours has.
NOWHERE = "localhost:1"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return models_lib.write_models(tmp_path_factory.mktemp("suite") / "models")


def start(models, batching):
    config = text_format.Parse(
        (models / "models.config").read_text(), model_server_config_pb2.ModelServerConfig()
    )
    return start_server(
        config,
        rest_port=0,
        file_system_poll_wait_seconds=0.1,
        max_num_load_retries=0,
        metrics_path=models_lib.METRICS_PATH,
        batching=batching,
    )


def failures(models, only="", batching=None):
    """Cases that the embedded server fails, with what was expected and found."""
    with start(models, batching) as served:
        rest = f"localhost:{served.rest_port}"
        target = f"localhost:{served.port}"
        has_batching = batching is not None
        with Server(target, rest=rest, models=models, batching=has_batching) as server:
            outcomes = runner.run(server, re.compile(only), quiet=bool(only))
    assert [item.case.name for item in outcomes if item.verdict == "ok"]
    return {item.case.name: item.detail for item in outcomes if item.verdict == "FAIL"}


@pytest.mark.check
def test_embedded_server_keeps_every_promise(models):
    assert failures(models) == {}


def test_embedded_server_batches_as_promised(models, capsys):
    options = BatchingOptions(
        max_batch_size=models_lib.MAX_BATCH_SIZE,
        batch_timeout_micros=20_000,
        max_enqueued_batches=100,
        num_batch_threads=1,
        allowed_batch_sizes=(2, models_lib.MAX_BATCH_SIZE),
    )
    only = "^batching/|^predict/(default|chosen|unknown|kernel)|^examples/(classify|regress)$"
    assert failures(models, only, options) == {}
    # Quiet: nothing but the summary where all is well.
    assert re.fullmatch(r"\n\d+ passed, 0 failed, 0 skipped\n", capsys.readouterr().out)


@pytest.fixture(scope="module")
def idle_server():
    """Address of a server that answers every call with UNIMPLEMENTED."""
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
    port = server.add_insecure_port("localhost:0")
    server.start()
    yield f"localhost:{port}"
    server.stop(None)


def test_a_server_that_does_nothing_fails_every_case(idle_server):
    """No case passes by itself; what goes wrong in a case does not stop the suite."""
    absent = {"predict/no_session_service", "predict/no_reflection"}
    with Server(idle_server, rest=NOWHERE, patience=1.0) as server:
        verdicts = {}
        for case in runner.CASES:
            if case.needs <= {"rest", "no batching"} and case.name not in absent:
                verdicts.setdefault(runner.run_case(case, server).verdict, []).append(case.name)
    assert set(verdicts) == {"FAIL", "skip"}, verdicts
    assert verdicts["skip"] == ["health/services"]
    assert len(verdicts["FAIL"]) > 60


def test_case_that_needs_more_than_there_is_is_skipped(idle_server):
    with Server(idle_server) as server:
        case = next(case for case in runner.CASES if case.name == "rest/rows")
        outcome = runner.run_case(case, server)
    assert (outcome.verdict, outcome.detail) == ("skip", "needs rest")


def test_case_names_are_unique_and_promises_are_sentences():
    names = [case.name for case in runner.CASES]
    assert len(set(names)) == len(names)
    assert all(case.promise.endswith(".") for case in runner.CASES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([f"--server={NOWHERE}", "--patience=0.2"], "nothing answers there after 0.2 s"),
        ([f"--server={NOWHERE}", "--only=no such case"], "no case matches 'no such case'"),
        ([f"--server={NOWHERE}", "--only=("], "--only=(: not a regular expression"),
        ([f"--server={NOWHERE}", "--models=/no/such/folder"], "no models.config there"),
    ],
)
def test_mistakes_are_one_line(arguments, message, capsys):
    assert command.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ") and error.count("\n") == 1


def test_server_without_the_models_is_a_mistake(idle_server, capsys):
    assert command.main([f"--server={idle_server}", "--patience=0.2"]) == 2
    assert "not available there: half, latest" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["conformance", "conformance.models", "fuzz"])
def test_help_is_quick(module):
    """--help must not import TensorFlow."""
    code = (
        "import runpy, sys\n"
        "sys.argv = ['x', '--help']\n"
        "try:\n"
        f"    runpy.run_module('vatt_tf.serving.{module}', run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_models_config_is_valid(models):
    config = text_format.Parse(
        models_lib.models_config("/models"), model_server_config_pb2.ModelServerConfig()
    )
    paths = {item.name: item.base_path for item in config.model_config_list.config}
    assert paths == {name: f"/models/{name}" for name in models_lib.VERSIONS}
    assert set(paths) == set(models_lib.SERVED)
    for name in paths:
        assert (models / name).is_dir()


def test_models_are_not_written_over_others(models):
    with pytest.raises(UserError, match="exists already"):
        models_lib.write_models(models)
    with pytest.raises(UserError, match="absolute paths only"):
        models_lib.write_models(models / "other", at="models")
