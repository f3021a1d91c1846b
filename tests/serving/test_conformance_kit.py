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
from vatt_tf.serving.server.requests.metrics import Metrics

KIT = pathlib.Path(__file__).resolve().parents[2] / "serving"
MODELS = ("video", "audio", "text")
# Flags of tensorflow_model_server 2.20 that a deployment may use.
SERVER_FLAGS = {
    "port",
    "rest_api_port",
    "rest_api_num_threads",
    "rest_api_timeout_in_ms",
    "enable_batching",
    "allow_version_labels_for_unavailable_models",
    "batching_parameters_file",
    "enable_per_model_batching_parameters",
    "model_config_file",
    "model_config_file_poll_wait_seconds",
    "model_name",
    "model_base_path",
    "num_load_threads",
    "num_unload_threads",
    "max_num_load_retries",
    "load_retry_interval_micros",
    "file_system_poll_wait_seconds",
    "flush_filesystem_caches",
    "tensorflow_session_parallelism",
    "tensorflow_intra_op_parallelism",
    "tensorflow_inter_op_parallelism",
    "ssl_config_file",
    "per_process_gpu_memory_fraction",
    "saved_model_tags",
    "grpc_channel_arguments",
    "grpc_max_threads",
    "enable_model_warmup",
    "monitoring_config_file",
    "enable_grpc_healthcheck_service",
    "enable_serialization_as_tensor_content",
}
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


def test_flags_are_those_of_the_server(container, compose):
    """tensorflow_model_server ends with 255 at a flag that it does not know."""
    (tls,) = read_yaml("kubernetes/tls/kustomization.yaml")
    added = [change["value"] for change in yaml.safe_load(tls["patches"][0]["patch"])]
    flags = [*container["args"], *(value for value in added if isinstance(value, str))]
    for flag in flags:
        name, _, value = flag.partition("=")
        assert name.removeprefix("--") in SERVER_FLAGS and value, flag
    assert "--grpc_max_threads=64" in flags
    assert all(port.startswith("${ADDRESS:-127.0.0.1}:") for port in compose["serving"]["ports"])


def rendered(*components):
    """What kustomize makes of the files: all objects, changed as the components say."""
    (kustomization,) = read_yaml("kustomization.yaml")
    objects = [item for name in kustomization["resources"] for item in read_yaml(name)]
    for component in components:
        (found,) = read_yaml(f"kubernetes/{component}/kustomization.yaml")
        assert found["kind"] == "Component"
        for patch in found["patches"]:
            content = yaml.safe_load(patch["patch"])
            if "target" not in patch:
                assert content.pop("$patch") == "delete"
                gone = [item for item in objects if item["kind"] == content["kind"]]
                assert [item["metadata"] for item in gone] == [content["metadata"]]
                objects.remove(gone[0])
                continue
            (target,) = [item for item in objects if item["kind"] == patch["target"]["kind"]]
            for change in content:
                apply_change(target, **change)
    return objects


def apply_change(target, op, path, value):
    """An operation of a JSON patch (RFC 6902)."""
    *parents, last = [part.replace("~1", "/") for part in path.split("/")[1:]]
    for part in parents:
        target = target[int(part) if isinstance(target, list) else part]
    if isinstance(target, list):
        if op == "add":
            assert last == "-"
            target.append(value)
        else:
            target[int(last)] = value
        return
    assert (last in target) == (op == "replace"), path
    target[last] = value


@pytest.mark.parametrize("components", [(), ("gpu",), ("tls",), ("copied_models",), ("gpu", "tls")])
def test_kubernetes_schema(components):
    validate = pytest.importorskip("kubernetes_validate")
    objects = rendered(*components)
    for item in objects:
        validate.validate(item, "1.31", strict=True)
    by_kind = {item["kind"]: item["spec"] for item in objects}
    pod = by_kind["Deployment"]["template"]
    labels = pod["metadata"]["labels"]
    assert by_kind["Service"]["selector"] == labels
    for kind, field in (
        ("Deployment", "selector"),
        ("PodDisruptionBudget", "selector"),
        ("NetworkPolicy", "podSelector"),
    ):
        assert by_kind[kind][field]["matchLabels"] == labels
    assert by_kind["HorizontalPodAutoscaler"]["scaleTargetRef"]["name"] == "vatt-serving"
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    (container,) = pod["spec"]["containers"]
    assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
    if "copied_models" in components:
        (copying,) = pod["spec"]["initContainers"]
        assert "emptyDir" in volumes["models"] and copying["volumeMounts"][0]["name"] == "models"
    if "tls" in components:
        assert "tcpSocket" in container["livenessProbe"] and "tls" in volumes


@pytest.mark.check
@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs Debian's package prometheus")
def test_alerts_are_valid(tmp_path):
    folder = KIT / "prometheus"
    for what, name in (("rules", "alerts.yaml"), ("config", "prometheus.yaml")):
        command = ["promtool", "check", what, folder / name]
        ended = subprocess.run(command, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stdout + ended.stderr


def test_alerts_read_metrics_that_exist():
    (content,) = read_yaml("prometheus/alerts.yaml")
    alerts = [rule for group in content["groups"] for rule in group["rules"]]
    known = {metric.name for metric in vars(Metrics()).values()}
    for alert in alerts:
        names = re.findall(r":tensorflow:[\w:]+", alert["expr"])
        assert {name.removesuffix("_bucket") for name in names} <= known, alert["alert"]
    runbook = (KIT.parent / "docs" / "serving_production.md").read_text(encoding="utf-8")
    assert all(f"`{alert['alert']}`" in runbook for alert in alerts)


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
    (prometheus,) = read_yaml("prometheus/prometheus.yaml")
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
