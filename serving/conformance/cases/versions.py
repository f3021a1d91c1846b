"""Versions that come and go under the server: hot reload, rollback, broken versions, warm-up."""

from __future__ import annotations

import contextlib
import pathlib
import shutil
import time
from collections.abc import Callable, Iterator

import grpc
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from vatt_tf.serving.conformance.cases.connection import Server, predict_request
from vatt_tf.serving.conformance.suite import Disagreement, Group, accepted, equal, refused

CODE = grpc.StatusCode
MODEL = "hot"
MISSING_OP = "NoSuchOperation"
WARMUP = "assets.extra/tf_serving_warmup_requests"
MAX_WARMUP_RECORDS = 1000

versions = Group("versions", "models")


def _nothing(folder: pathlib.Path) -> None:
    """Leaves the new version as it is."""


@contextlib.contextmanager
def new_version(server: Server, change: Callable[[pathlib.Path], None] = _nothing) -> Iterator[int]:
    """Puts a copy of version 1 of the model ``hot`` beside it; takes it away again at the end.

    Args:
        server: The server.
        change: Called with the folder before the server can see it.

    Yields:
        The number of the new version; it has never been used before.
    """
    assert server.models is not None
    base = server.models / MODEL
    used = [int(path.name) for path in base.iterdir() if path.name.isdigit()]
    number = max([*used, *server.states(MODEL)]) + 1
    unfinished = base / f"tmp_{number}"
    shutil.copytree(base / "1", unfinished)
    try:
        change(unfinished)
        unfinished.rename(base / str(number))
        yield number
    finally:
        for path in (unfinished, base / str(number)):
            shutil.rmtree(path, ignore_errors=True)
        if not server.wait_for(lambda: _only_first(server)):
            raise Disagreement(
                f"version 1 did not come back after {number} was removed: {server.states(MODEL)}"
            )


def _only_first(server: Server) -> bool:
    states = server.states(MODEL)
    return states.get(1) == "AVAILABLE" and set(states.values()) <= {"AVAILABLE", "END"}


def _serve_until(server: Server, condition: Callable[[dict[int, str]], bool], what: str) -> None:
    """Sends requests, none of which may fail, until the states are as they should be."""
    end = time.monotonic() + server.patience
    while not condition(states := server.states(MODEL)):
        accepted(server.predict(predict_request(MODEL)))
        if time.monotonic() > end:
            raise Disagreement(f"expected {what}, found {states} after {server.patience:g} s")
    accepted(server.predict(predict_request(MODEL)))


def _served(server: Server) -> int:
    return accepted(server.predict(predict_request(MODEL))).model_spec.version.value


@versions.case()
def hot_reload(server: Server) -> None:
    """A new version is loaded before the old one goes; no request fails on the way."""
    with new_version(server) as number:
        new, old = "AVAILABLE", "END"
        expected = f"{number} {new} and 1 {old}"
        _serve_until(server, lambda s: (s.get(number), s.get(1)) == (new, old), expected)
        equal(list(server.states(MODEL))[0], number, "first version of the list")
        equal(_served(server), number, "version that answers")
        message = f"Servable not found for request: Specific({MODEL}, 1)"
        refused(server.predict(predict_request(MODEL, version=1)), CODE.NOT_FOUND, message)
        gone = next(item for item in server.versions(MODEL) if item.version == 1)
        equal(gone.status.error_code, 0, "error_code of the version that was unloaded")


@versions.case()
def rollback(server: Server) -> None:
    """When the newest folder is removed, the one before comes back; no request fails."""
    assert server.models is not None
    with new_version(server) as number:
        _serve_until(server, lambda s: s.get(1) == "END", f"{number} alone")
        (server.models / MODEL / str(number)).rename(server.models / MODEL / "tmp_removed")
        try:
            after = ("AVAILABLE", "END")
            expected = f"1 {after[0]} and {number} {after[1]}"
            _serve_until(server, lambda s: (s.get(1), s.get(number)) == after, expected)
            equal(_served(server), 1, "version that answers")
        finally:
            shutil.rmtree(server.models / MODEL / "tmp_removed")


@versions.case()
def emptied(server: Server) -> None:
    """When the last folder is removed, the model is unloaded: NOT_FOUND."""
    assert server.models is not None
    folder = server.models / MODEL / "1"
    away = folder.with_name("tmp_1")
    folder.rename(away)
    try:
        request = predict_request(MODEL)
        if not server.wait_for(lambda: server.predict(request).code is not CODE.OK):
            raise Disagreement(f"{MODEL} still answers although it has no version")
        message = f"Servable not found for request: Latest({MODEL})"
        refused(server.predict(request), CODE.NOT_FOUND, message)
    finally:
        away.rename(folder)
        if not server.wait_for(lambda: _only_first(server)):
            raise Disagreement(f"version 1 did not come back: {server.states(MODEL)}")


def _fails_to_load(
    server: Server, change: Callable[[pathlib.Path], None], code: int | None = None
) -> None:
    """Checks that a broken version ends with an error while the old one serves."""
    with new_version(server, change) as number:
        expected = f"{number} END (is the server's max_num_load_retries 0?) and 1 AVAILABLE"
        ended = ("END", "AVAILABLE")
        _serve_until(server, lambda s: (s.get(number), s.get(1)) == ended, expected)
        equal(_served(server), 1, "version that answers")
        status = next(item for item in server.versions(MODEL) if item.version == number).status
        if not status.error_code or not status.error_message:
            raise Disagreement(f"expected a status that says why, found {status}")
        if code is not None:
            equal(status.error_code, code, f"error_code ({status.error_message})")


@versions.case()
def half_written(server: Server) -> None:
    """A version without saved_model.pb: END with an error, the old version serves."""
    _fails_to_load(server, lambda folder: (folder / "saved_model.pb").unlink())


@versions.case()
def corrupt_graph(server: Server) -> None:
    """A saved_model.pb cut in the middle: END with an error, the old version serves."""

    def cut(folder: pathlib.Path) -> None:
        content = (folder / "saved_model.pb").read_bytes()
        (folder / "saved_model.pb").write_bytes(content[: len(content) // 2])

    _fails_to_load(server, cut)


@versions.case()
def missing_variables(server: Server) -> None:
    """A version without variables and warm-up is AVAILABLE; Predict is FAILED_PRECONDITION."""
    with new_version(server, lambda folder: shutil.rmtree(folder / "variables")) as number:
        if not server.wait_for(lambda: server.states(MODEL).get(number) == "AVAILABLE"):
            raise Disagreement(f"expected version {number} AVAILABLE: {server.states(MODEL)}")
        request = predict_request(MODEL, version=number)
        refused(server.predict(request), CODE.FAILED_PRECONDITION)


@versions.case()
def missing_variables_with_warmup(server: Server) -> None:
    """A version without variables that is warmed up: END with an error, the old version serves."""

    def change(folder: pathlib.Path) -> None:
        shutil.rmtree(folder / "variables")
        _warmup(folder, "x")

    _fails_to_load(server, change)


@versions.case()
def missing_operation(server: Server) -> None:
    """An operation that the server does not have shows at Predict; the version is AVAILABLE."""

    def rename_operation(folder: pathlib.Path) -> None:
        saved = saved_model_pb2.SavedModel()
        saved.ParseFromString((folder / "saved_model.pb").read_bytes())
        for function in saved.meta_graphs[0].graph_def.library.function:
            for node in function.node_def:
                if node.op == "RealDiv":
                    node.op = MISSING_OP
        (folder / "saved_model.pb").write_bytes(saved.SerializeToString())

    with new_version(server, rename_operation) as number:
        if not server.wait_for(lambda: server.states(MODEL).get(number) == "AVAILABLE"):
            item = next((one for one in server.versions(MODEL) if one.version == number), None)
            raise Disagreement(f"expected version {number} AVAILABLE, found {item}")
        reply = server.predict(predict_request(MODEL, version=number))
        part = f"Op type not registered '{MISSING_OP}' in binary running on"
        refused(reply, CODE.NOT_FOUND, parts=[part])


def _warmup(folder: pathlib.Path, alias: str, records: int = 1) -> None:
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.CopyFrom(predict_request("any name", {alias: [1.0]}))
    (folder / WARMUP).parent.mkdir()
    with tf.io.TFRecordWriter(str(folder / WARMUP)) as writer:
        for _ in range(records):
            writer.write(log.SerializeToString())


@versions.case()
def warmup(server: Server) -> None:
    """Warm-up records run before the version is AVAILABLE; their model name is ignored."""
    with new_version(server, lambda folder: _warmup(folder, "x")) as number:
        _serve_until(server, lambda s: s.get(number) == "AVAILABLE", f"{number} AVAILABLE")


@versions.case()
def failing_warmup(server: Server) -> None:
    """A record that fails makes the load fail with its error; the old version serves."""
    code = CODE.INVALID_ARGUMENT.value[0]
    _fails_to_load(server, lambda folder: _warmup(folder, "no_such_input"), code)


@versions.case("no batching")
def too_many_warmup_records(server: Server) -> None:
    """More than 1000 records make the load fail with INVALID_ARGUMENT."""
    code = CODE.INVALID_ARGUMENT.value[0]
    _fails_to_load(server, lambda folder: _warmup(folder, "x", MAX_WARMUP_RECORDS + 1), code)
