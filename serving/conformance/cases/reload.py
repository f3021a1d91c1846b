"""HandleReloadConfigRequest: the whole configuration is replaced while the server runs."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf import text_format
from tensorflow_serving.apis import model_management_pb2
from tensorflow_serving.config import model_server_config_pb2

from vatt_tf.serving.conformance.cases.connection import Reply, Server, predict_request
from vatt_tf.serving.conformance.models import SERVED
from vatt_tf.serving.conformance.suite import Disagreement, Group, accepted, equal, refused

CODE = grpc.StatusCode

reload = Group("reload", "models")


def started_with(server: Server) -> model_server_config_pb2.ModelServerConfig:
    """Returns the configuration that the suite's server is started with."""
    assert server.models is not None
    text = (server.models / "models.config").read_text(encoding="utf-8")
    return text_format.Parse(text, model_server_config_pb2.ModelServerConfig())


def _model(config: model_server_config_pb2.ModelServerConfig, name: str) -> Any:
    return next(item for item in config.model_config_list.config if item.name == name)


def _add(config: model_server_config_pb2.ModelServerConfig, name: str, base_path: str) -> Any:
    return config.model_config_list.config.add(
        name=name, base_path=base_path, model_platform="tensorflow"
    )


def _send(
    server: Server,
    config: model_server_config_pb2.ModelServerConfig,
    timeout: float | None = None,
) -> Reply:
    request = model_management_pb2.ReloadConfigRequest(config=config)
    return server.reload(request, timeout)


@contextlib.contextmanager
def changing(server: Server) -> Iterator[model_server_config_pb2.ModelServerConfig]:
    """Yields the start configuration for a case to change; brings it back at the end."""
    try:
        yield started_with(server)
    finally:
        accepted(_send(server, started_with(server)))
        if not server.wait_for(lambda: all(_back(server, name) for name in SERVED)):
            states = {name: server.states(name) for name in SERVED}
            raise Disagreement(f"after a reload with the first configuration: {states}")


def _back(server: Server, name: str) -> bool:
    states = server.states(name)
    available = [version for version, state in states.items() if state == "AVAILABLE"]
    return available == SERVED[name] and set(states.values()) <= {"AVAILABLE", "END"}


@reload.case()
def same_again(server: Server) -> None:
    """The same configuration again: OK, nothing changes."""
    with changing(server) as config:
        response = accepted(_send(server, config))
        equal(response.status.error_code, 0, "error_code in the response")
        accepted(server.predict(predict_request(version=1)))


@reload.case()
def new_model(server: Server) -> None:
    """A model that is new in the list answers as soon as the call returns."""
    with changing(server) as config:
        _add(config, "added", _model(config, "words").base_path)
        accepted(_send(server, config))
        accepted(server.predict(predict_request("added", {"text": [b"abc"]})))


@reload.case()
def dropped_model(server: Server) -> None:
    """A model that is not in the list any more is NOT_FOUND; the others answer all the while."""
    with changing(server) as config:
        config.model_config_list.config.remove(_model(config, "words"))
        accepted(_send(server, config))
        request = predict_request("words", {"text": [b"abc"]})
        if not server.wait_for(lambda: server.predict(request).code is CODE.NOT_FOUND):
            raise Disagreement("words still answers after it was dropped")
        if not server.wait_for(lambda: server.states("words") == {1: "END"}):
            raise Disagreement(f"expected words {{1: 'END'}}, found {server.states('words')}")
        accepted(server.predict(predict_request("half")))


@reload.case()
def empty_list(server: Server) -> None:
    """An empty list unloads everything."""
    with changing(server) as config:
        config.model_config_list.ClearField("config")
        config.model_config_list.SetInParent()
        accepted(_send(server, config))
        ended = {1: "END", 2: "END"}
        if not server.wait_for(lambda: server.states("half") == ended):
            raise Disagreement(f"expected half {ended}, found {server.states('half')}")
        refused(server.predict(predict_request()), CODE.NOT_FOUND)


@reload.case()
def other_policy(server: Server) -> None:
    """Another version policy takes effect: `specific` goes back to an older version."""
    with changing(server) as config:
        specific = _model(config, "half").model_version_policy.specific
        specific.versions[:] = [1]
        accepted(_send(server, config))
        expected = {2: "END", 1: "AVAILABLE"}
        if not server.wait_for(lambda: server.states("half") == expected):
            raise Disagreement(f"expected half {expected}, found {server.states('half')}")
        response = accepted(server.predict(predict_request()))
        equal(response.model_spec.version.value, 1, "version that answers")


@reload.case()
def labels(server: Server) -> None:
    """Labels select versions and can be moved; the reply names the version, not the label."""
    with changing(server) as config:
        model = _model(config, "half")
        for stable, canary in ((1, 2), (2, 1)):
            model.version_labels["stable"] = stable
            model.version_labels["canary"] = canary
            accepted(_send(server, config))
            for label, version in (("stable", stable), ("canary", canary)):
                response = accepted(server.predict(predict_request(label=label)))
                equal(response.model_spec.version.value, version, f"version of {label}")


@reload.case("rest")
def labels_in_rest(server: Server) -> None:
    """REST: /labels/L selects a version; an unknown label is 400."""
    with changing(server) as config:
        _model(config, "half").version_labels["stable"] = 1
        accepted(_send(server, config))
        body = {"instances": [0.0]}
        reply = server.http("POST", "/v1/models/half/labels/stable:predict", body)
        equal((reply.status, reply.json), (200, {"predictions": [2.0]}), "reply of stable")
        reply = server.http("POST", "/v1/models/half/labels/other:predict", body)
        equal(reply.status, 400, "HTTP status of an unknown label")


@reload.case()
def label_of_unavailable_version(server: Server) -> None:
    """A label cannot be moved to a version that is not available: FAILED_PRECONDITION."""
    with changing(server) as config:
        model = _model(config, "half")
        model.version_labels["stable"] = 1
        accepted(_send(server, config))
        model.version_labels["stable"] = 99
        message = (
            "Request to assign label to version 99 of model half, which is not currently "
            "available for inference"
        )
        refused(_send(server, config), CODE.FAILED_PRECONDITION, parts=[message])
        response = accepted(server.predict(predict_request(label="stable")))
        equal(response.model_spec.version.value, 1, "version of the label after the refusal")


@reload.case()
def no_list(server: Server) -> None:
    """A configuration without a model list: INVALID_ARGUMENT."""
    message = (
        "ServerModelConfig type not supported by HandleReloadConfigRequest. "
        "Only ModelConfigList is currently supported"
    )
    with changing(server):
        reply = _send(server, model_server_config_pb2.ModelServerConfig())
        refused(reply, CODE.INVALID_ARGUMENT, parts=[message])


@reload.case()
def name_twice(server: Server) -> None:
    """The same model twice: INVALID_ARGUMENT."""
    with changing(server) as config:
        _add(config, "half", _model(config, "half").base_path)
        message = "Illegal to list model half multiple times in config list"
        refused(_send(server, config), CODE.INVALID_ARGUMENT, parts=[message])


@reload.case()
def unknown_platform(server: Server) -> None:
    """Another platform than tensorflow: INVALID_ARGUMENT."""
    with changing(server) as config:
        _add(config, "zz", _model(config, "half").base_path).model_platform = "pytorch"
        message = "Model zz requests unsupported platform pytorch"
        refused(_send(server, config), CODE.INVALID_ARGUMENT, parts=[message])


@reload.case()
def relative_path(server: Server) -> None:
    """A relative base path: INVALID_ARGUMENT."""
    with changing(server) as config:
        _add(config, "rel", "some/folder")
        message = "Expected model rel to have an absolute path or URI; got base_path()=some/folder"
        refused(_send(server, config), CODE.INVALID_ARGUMENT, parts=[message])


@reload.case()
def missing_path_waits(server: Server) -> None:
    """A base path that does not exist: the call, and every later one, waits until it does."""
    assert server.models is not None
    folder = server.models / "late"
    shutil.rmtree(folder, ignore_errors=True)
    with changing(server) as config:
        half = _model(config, "half").base_path
        _add(config, "late", half.removesuffix("half") + "late")
        try:
            refused(_send(server, config, timeout=2.0), CODE.DEADLINE_EXCEEDED)
            refused(_send(server, config, timeout=2.0), CODE.DEADLINE_EXCEEDED)
            accepted(server.predict(predict_request("half")))
        finally:
            shutil.copytree(server.models / "half" / "1", folder / "tmp_1")
            (folder / "tmp_1").rename(folder / "1")
        request = predict_request("late")
        if not server.wait_for(lambda: server.predict(request).code is CODE.OK):
            raise Disagreement("late does not answer although its folder is there now")
    shutil.rmtree(folder)


@reload.case()
def no_platform(server: Server) -> None:
    """No platform, or both a platform and a type: INVALID_ARGUMENT."""
    # The last case: TensorFlow Serving keeps what it has refused here, and then refuses every
    # configuration until it is started again.
    for changes in ({"model_platform": ""}, {"model_type": 1}):
        config = started_with(server)
        added = _add(config, "zz", _model(config, "half").base_path)
        for field, value in changes.items():
            setattr(added, field, value)
        reply = _send(server, config)
        refused(reply, CODE.INVALID_ARGUMENT, parts=["Illegal setting"])
