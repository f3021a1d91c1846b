"""The REST service: rows and columns, strings, errors, status, metadata, metrics."""

from __future__ import annotations

from vatt_tf.serving.conformance.cases.connection import HttpReply, Server
from vatt_tf.serving.conformance.cases.examples import regression
from vatt_tf.serving.conformance.models import METRICS_PATH
from vatt_tf.serving.conformance.suite import (
    Disagreement,
    Group,
    NotApplicable,
    accepted,
    equal,
)

HALF = "/v1/models/half"
METRICS = (
    ":tensorflow:serving:request_count",
    ":tensorflow:serving:request_latency",
    ":tensorflow:serving:runtime_latency",
    ":tensorflow:serving:request_example_count_total",
    ":tensorflow:cc:saved_model:load_attempt_count",
)

rest = Group("rest", "rest")
metrics = Group("metrics", "rest")


def _result(reply: HttpReply, expected: object) -> None:
    equal(reply.status, 200, f"HTTP status ({reply.text.strip()[:200]})")
    equal(reply.json, expected, "body")


def _error(reply: HttpReply, status: int, part: str = "") -> None:
    equal(reply.status, status, f"HTTP status ({reply.text.strip()[:200]})")
    if not isinstance(reply.json, dict) or not isinstance(reply.json.get("error"), str):
        raise Disagreement(f'expected {{"error": message}}, found {reply.text!r}')
    if part not in reply.json["error"]:
        raise Disagreement(f"expected {part!r} in the error, found {reply.json['error']!r}")


@rest.case()
def rows(server: Server) -> None:
    """{"instances"} gives {"predictions"}; one output is a bare value."""
    reply = server.http("POST", f"{HALF}:predict", {"instances": [0.0, 4.0]})
    _result(reply, {"predictions": [3.0, 5.0]})


@rest.case()
def named_rows(server: Server) -> None:
    """A row may be a dict of inputs; several outputs give a dict per row."""
    body = {"signature_name": "both", "instances": [{"x": 0.0}, {"x": 4.0}]}
    expected = [{"y": 3.0, "twice": 6.0}, {"y": 5.0, "twice": 10.0}]
    _result(server.http("POST", f"{HALF}:predict", body), {"predictions": expected})


@rest.case()
def columns(server: Server) -> None:
    """{"inputs"} gives {"outputs"}: a bare value or a dict."""
    one = server.http("POST", f"{HALF}:predict", {"inputs": {"x": [0.0, 4.0]}})
    _result(one, {"outputs": [3.0, 5.0]})
    body = {"signature_name": "both", "inputs": [0.0]}
    expected = {"y": [3.0], "twice": [6.0]}
    _result(server.http("POST", f"{HALF}:predict", body), {"outputs": expected})


@rest.case()
def version(server: Server) -> None:
    """/versions/N selects a version; an unknown one is 404."""
    body = {"instances": [0.0]}
    _result(server.http("POST", f"{HALF}/versions/1:predict", body), {"predictions": [2.0]})
    reply = server.http("POST", f"{HALF}/versions/99:predict", body)
    _error(reply, 404, "Servable not found for request: Specific(half, 99)")


@rest.case()
def strings(server: Server) -> None:
    """Strings come plain or as {"b64"}; an output named ..._bytes is {"b64"} again."""
    body = {"instances": ["abc", {"b64": "/wA="}]}
    expected = [
        {"text_bytes": {"b64": "YWJj"}, "length": 3},
        {"text_bytes": {"b64": "/wA="}, "length": 2},
    ]
    reply = server.http("POST", "/v1/models/words:predict", body)
    _result(reply, {"predictions": expected})


@rest.case("no batching")
def scalar(server: Server) -> None:
    """An input without a batch axis works in columns; in rows the graph gets an axis more."""
    column = {"signature_name": "scalar", "inputs": {"x": 2.0}}
    _result(server.http("POST", f"{HALF}:predict", column), {"outputs": 4.0})
    row = {"signature_name": "scalar", "instances": [{"x": 2.0}]}
    # The sum over a scalar has no axis to sum over, and leaves the one that the rows make.
    _result(server.http("POST", f"{HALF}:predict", row), {"predictions": [4.0]})


@rest.case()
def numbers(server: Server) -> None:
    """A number is rounded to the input's type, beyond it to infinity; 1e400 is no number: 400."""
    for text, value in (("16777217", 16777216.0), ("3.4028235e38", 3.4028234663852886e38)):
        reply = server.http("POST", f"{HALF}:predict", f'{{"instances": [{text}]}}')
        equal(reply.status, 200, f"HTTP status ({reply.text.strip()[:200]})")
        equal(abs(reply.json["predictions"][0] * 2 / value - 1) < 1e-6, True, f"half of {text}")
    equal(server.http("POST", f"{HALF}:predict", '{"instances": [1e39]}').status, 200, "1e39")
    _error(server.http("POST", f"{HALF}:predict", '{"instances": [1e400]}'), 400)


@rest.case()
def paths(server: Server) -> None:
    """A verb in other letters and a query string are no path: 400; of a status, no model: 404."""
    body = {"instances": [1.0]}
    for path in (":PREDICT", ":predict?a=1"):
        _error(server.http("POST", f"{HALF}{path}", body), 400, "Malformed request: POST")
    _error(server.http("GET", f"{HALF}?a=1"), 404)
    digits = "9" * 5000
    _error(server.http("GET", f"{HALF}/versions/{digits}"), 400)


@rest.case()
def bodies(server: Server) -> None:
    """A body that is no gzip although a header says so is 400, and so is half a surrogate pair."""
    body = '{"instances": ["\\ud800"]}'
    _error(server.http("POST", "/v1/models/words:predict", body), 400)
    headers = {"Content-Encoding": "gzip"}
    _error(server.http("POST", f"{HALF}:predict", {"instances": [1.0]}, headers), 400)


@rest.case()
def unknown_model(server: Server) -> None:
    """An unknown model is 404 with {"error"}."""
    reply = server.http("POST", "/v1/models/zz:predict", {"instances": [1.0]})
    _error(reply, 404, "Servable not found for request: Latest(zz)")


@rest.case()
def unknown_signature(server: Server) -> None:
    """An unknown signature is 400, with another message than gRPC's."""
    body = {"signature_name": "zz", "instances": [1.0]}
    reply = server.http("POST", f"{HALF}:predict", body)
    _error(reply, 400, 'Serving signature name: "zz" not found in signature def')


@rest.case()
def broken_json(server: Server) -> None:
    """A body that is no JSON is 400."""
    for body in ('{"instances": [1.0', "", "[]"):
        _error(server.http("POST", f"{HALF}:predict", body), 400)


@rest.case()
def ragged_list(server: Server) -> None:
    """Rows of different lengths are 400."""
    body = {"instances": [[1.0, 2.0], [3.0]]}
    _error(server.http("POST", f"{HALF}:predict", body), 400)


@rest.case()
def missing_input(server: Server) -> None:
    """A missing input is 400, in rows and in columns."""
    for body in ({"instances": [{"a": 1.0}]}, {"inputs": {"a": [1.0]}}):
        _error(server.http("POST", f"{HALF}:predict", {"signature_name": "add", **body}), 400)


@rest.case()
def both_keys(server: Server) -> None:
    """Both "instances" and "inputs" are 400, and so is neither."""
    for body in ({"instances": [1.0], "inputs": [1.0]}, {"signature_name": "both"}):
        _error(server.http("POST", f"{HALF}:predict", body), 400)


@rest.case()
def string_for_number(server: Server) -> None:
    """A string for a float input is 400."""
    _error(server.http("POST", f"{HALF}:predict", {"instances": ["many"]}), 400)


@rest.case()
def kernel_error(server: Server) -> None:
    """INVALID_ARGUMENT of an operation is 400, its NOT_FOUND is 404."""
    body = {"signature_name": "number", "instances": ["many"]}
    reply = server.http("POST", "/v1/models/words:predict", body)
    _error(reply, 400, "StringToNumberOp could not correctly convert string: many")
    failing = {"signature_name": "missing_file", "instances": [1.0]}
    _error(server.http("POST", f"{HALF}:predict", failing), 404, "/no/such/folder/")


@rest.case()
def status(server: Server) -> None:
    """Status lists the versions, newest first, as JSON; /versions/N one of them."""

    def fine(number: int) -> dict[str, object]:
        status = {"error_code": "OK", "error_message": ""}
        return {"version": str(number), "state": "AVAILABLE", "status": status}

    _result(server.http("GET", HALF), {"model_version_status": [fine(2), fine(1)]})
    _result(server.http("GET", f"{HALF}/versions/1"), {"model_version_status": [fine(1)]})
    _error(server.http("GET", "/v1/models/zz"), 404, "Could not find any versions of model zz")


@rest.case()
def status_ignores_label(server: Server) -> None:
    """Status of a label lists all versions, even for an unknown label."""
    reply = server.http("GET", f"{HALF}/labels/no_such_label")
    equal(reply.status, 200, f"HTTP status ({reply.text.strip()[:200]})")
    found = [item["version"] for item in reply.json["model_version_status"]]
    equal(found, ["2", "1"], "versions")


@rest.case()
def metadata(server: Server) -> None:
    """Metadata holds the signatures as JSON."""
    reply = server.http("GET", f"{HALF}/metadata")
    equal(reply.status, 200, f"HTTP status ({reply.text.strip()[:200]})")
    spec = reply.json["model_spec"]
    equal((spec["name"], spec["version"]), ("half", "2"), "model_spec")
    found = reply.json["metadata"]["signature_def"]["signature_def"]
    equal(sorted(found["both"]["outputs"]), ["twice", "y"], "outputs of signature both")


@rest.case()
def unknown_path(server: Server) -> None:
    """An unknown path under /v1 is 400 and quoted; another path is 404 and no JSON."""
    _error(server.http("GET", "/v1/foo"), 400, "Malformed request: GET /v1/foo")
    reply = server.http("GET", "/foo")
    equal((reply.status, reply.json), (404, None), "status and JSON of /foo")


@metrics.case()
def names(server: Server) -> None:
    """The metrics page holds the promised names after a few requests."""
    server.http("POST", f"{HALF}:predict", {"instances": [1.0]})
    accepted(server.regress(regression()))
    reply = server.http("GET", METRICS_PATH)
    if reply.status == 404:
        raise NotApplicable(f"no metrics at {METRICS_PATH}")
    missing = [name for name in METRICS if name not in reply.text]
    equal(missing, [], "missing metrics")


@metrics.case()
def request_count(server: Server) -> None:
    """request_count grows with the requests, by model and status."""

    def count() -> float:
        reply = server.http("GET", METRICS_PATH)
        if reply.status == 404:
            raise NotApplicable(f"no metrics at {METRICS_PATH}")
        lines = [line for line in reply.text.splitlines() if line.startswith(METRICS[0] + "{")]
        wanted = [line for line in lines if 'model_name="half"' in line and 'status="OK"' in line]
        return sum(float(line.rsplit(" ", 1)[1]) for line in wanted)

    before = count()
    for _ in range(3):
        server.http("POST", f"{HALF}:predict", {"instances": [1.0]})
    if not server.wait_for(lambda: count() >= before + 3):
        raise Disagreement(f"request_count of half: expected {before + 3:.0f}, found {count():.0f}")
