"""The files for tensorflow_model_server: they parse, fit each other and name what exists."""

from __future__ import annotations

import http.server
import json
import pathlib
import re
import shutil
import subprocess
import threading

import pytest
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from tensorflow_serving.config import model_server_config_pb2

from vatt_tf.serving.conformance import models as models_lib
from vatt_tf.serving.conformance.cases.rest import METRICS

KIT = pathlib.Path(__file__).resolve().parents[2] / "serving"
MODELS = ("video", "audio", "text")
# Fields of the server's own messages, which the published stubs lack.
_FIELD = descriptor_pb2.FieldDescriptorProto
MESSAGES = {
    "Count": {"value": _FIELD.TYPE_INT64},
    "Text": {"value": _FIELD.TYPE_STRING},
    "BatchingParameters": {
        "max_batch_size": "Count",
        "batch_timeout_micros": "Count",
        "max_enqueued_batches": "Count",
        "num_batch_threads": "Count",
        "thread_pool_name": "Text",
        "allowed_batch_sizes": [_FIELD.TYPE_INT64],
        "pad_variable_length_inputs": _FIELD.TYPE_BOOL,
    },
    "Prometheus": {"enable": _FIELD.TYPE_BOOL, "path": _FIELD.TYPE_STRING},
    "MonitoringConfig": {"prometheus_config": "Prometheus"},
}


@pytest.fixture(scope="module")
def message_class():
    """Returns the class of one of MESSAGES."""
    file = descriptor_pb2.FileDescriptorProto(name="kit.proto", package="kit", syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields.items(), start=1):
            added = message.field.add(name=field, number=number, label=_FIELD.LABEL_OPTIONAL)
            if isinstance(kind, list):
                added.label, (kind,) = _FIELD.LABEL_REPEATED, kind
            if isinstance(kind, str):
                added.type, added.type_name = _FIELD.TYPE_MESSAGE, f".kit.{kind}"
            else:
                added.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return lambda name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"kit.{name}"))


def read_yaml(name):
    return list(yaml.safe_load_all((KIT / name).read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def compose():
    (content,) = read_yaml("docker-compose.yaml")
    return content["services"]


@pytest.fixture(scope="module")
def container():
    (content,) = read_yaml("kubernetes/deployment.yaml")
    (found,) = content["spec"]["template"]["spec"]["containers"]
    return found


def test_models_config():
    text = (KIT / "models.config").read_text(encoding="utf-8")
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    found = {item.name: item.base_path for item in config.model_config_list.config}
    assert found == {name: f"/models/{name}" for name in MODELS}
    # What the comments propose is valid, too.
    proposed = "".join(re.findall(r"^#   (\w+ \{.*\})$", text, flags=re.MULTILINE))
    model = text_format.Parse(proposed, model_server_config_pb2.ModelConfig())
    assert dict(model.version_labels) == {"stable": 3, "canary": 4}
    assert list(model.model_version_policy.specific.versions) == [3, 4]


@pytest.mark.parametrize("source", ["kit", "suite"])
def test_batching_config(message_class, source):
    text = models_lib.BATCHING
    if source == "kit":
        text = (KIT / "batching.config").read_text(encoding="utf-8")
    parsed = text_format.Parse(text, message_class("BatchingParameters")())
    sizes = list(parsed.allowed_batch_sizes)
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == parsed.max_batch_size.value


@pytest.mark.parametrize("source", ["kit", "suite"])
def test_monitoring_config(message_class, source):
    text = models_lib.MONITORING
    if source == "kit":
        text = (KIT / "monitoring.config").read_text(encoding="utf-8")
    parsed = text_format.Parse(text, message_class("MonitoringConfig")())
    assert parsed.prometheus_config.enable
    assert parsed.prometheus_config.path == models_lib.METRICS_PATH


@pytest.mark.parametrize("name", sorted(str(path.relative_to(KIT)) for path in KIT.rglob("*.yaml")))
def test_yaml(name):
    assert all(isinstance(document, dict) for document in read_yaml(name))


def test_one_server_everywhere(compose, container):
    """Compose and Kubernetes start the same server, with files that are there."""
    assert compose["serving"]["entrypoint"] == container["command"]
    assert compose["serving"]["command"] == container["args"]
    version = "2.20.0"
    assert f"{version}}}" in compose["serving"]["image"]
    (kustomization,) = read_yaml("kustomization.yaml")
    assert kustomization["images"] == [{"name": container["image"], "newTag": version}]
    used = {
        match.group(1) for flag in container["args"] if (match := re.search("/config/(.*)", flag))
    }
    (generator,) = kustomization["configMapGenerator"]
    assert used | {"ready.sh"} == set(generator["files"])
    for name in [*kustomization["resources"], *generator["files"]]:
        assert (KIT / name).is_file(), name


def test_mounted_files_exist(compose):
    for service in compose.values():
        for volume in service["volumes"]:
            if isinstance(volume, str):
                assert (KIT / volume.split(":")[0]).is_file(), volume


def test_readiness_is_a_predict(compose, container):
    assert container["readinessProbe"]["exec"]["command"] == ["bash", "/config/ready.sh"]
    assert compose["serving"]["healthcheck"]["test"][1:] == ["bash", "/config/ready.sh"]
    assert container["resources"]["requests"] and container["resources"]["limits"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(("status", "code"), [(200, 0), (404, 1), (503, 1)])
def test_ready_script(status, code):
    bodies = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            bodies.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *args):
            pass

    with http.server.HTTPServer(("localhost", 0), Handler) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        command = ["bash", KIT / "ready.sh", str(server.server_port)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert (ended.returncode, ended.stderr) == (code, "")
    ((path, body),) = bodies
    assert path == "/v1/models/text:predict"
    assert json.loads(body) == {"instances": ["ready"]}


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_ready_script_without_a_server():
    assert subprocess.run(["bash", KIT / "ready.sh", "1"], capture_output=True).returncode == 1


def test_prometheus_reads_the_metrics_page(compose, container):
    (prometheus,) = read_yaml("prometheus.yaml")
    (job,) = prometheus["scrape_configs"]
    assert job["metrics_path"] == models_lib.METRICS_PATH
    assert job["static_configs"] == [{"targets": ["serving:8501"]}]
    assert {"containerPort": 8501, "name": "rest"} in container["ports"]


def test_dashboard_shows_metrics_that_exist():
    dashboard = json.loads((KIT / "grafana" / "dashboard.json").read_text(encoding="utf-8"))
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    queries += [item["query"] for item in dashboard["templating"]["list"]]
    names = {name for query in queries for name in re.findall(r":tensorflow:[\w:]+", query)}
    known = {*METRICS, ":tensorflow:serving:model_warmup_latency"}
    assert {name.removesuffix("_bucket") for name in names} == known
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
