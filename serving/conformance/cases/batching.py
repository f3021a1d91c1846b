"""A server with ``enable_batching`` and the suite's ``batching.config``."""

from __future__ import annotations

import grpc
import numpy as np

from vatt_tf.serving.conformance.cases.connection import Server, floats, predict_request, values
from vatt_tf.serving.conformance.models import MAX_BATCH_SIZE
from vatt_tf.serving.conformance.suite import Disagreement, Group, accepted, equal, refused

CODE = grpc.StatusCode
# The clients that happen to meet in one batch are a matter of luck: so many attempts.
ATTEMPTS = 10

batching = Group("batching", "batching")


def _rows(count: int) -> dict[str, np.ndarray]:
    return {"x": np.zeros([count], np.float32)}


@batching.case()
def padded_and_cut(server: Server) -> None:
    """A batch is padded up to an allowed size; the reply has the rows that were sent."""
    response = accepted(server.predict(predict_request("half", _rows(3), signature="rows")))
    equal(values(response), {"y": [float(MAX_BATCH_SIZE)] * 3}, "rows that the graph saw")


@batching.case()
def merged(server: Server) -> None:
    """Requests that arrive together run as one batch; each gets its own rows."""
    for _ in range(ATTEMPTS):
        request = predict_request("half", _rows(1), signature="rows")
        futures = [server.predict_later(request) for _ in range(MAX_BATCH_SIZE)]
        found = [values(future.result())["y"] for future in futures]
        equal([len(rows) for rows in found], [1] * MAX_BATCH_SIZE, "rows in each reply")
        # One or two rows are padded to two: four rows come only from three requests or more.
        if [float(MAX_BATCH_SIZE)] in found:
            return
    raise Disagreement(f"{MAX_BATCH_SIZE} requests at once never shared a batch")


@batching.case()
def own_rows(server: Server) -> None:
    """Merged requests do not mix their rows."""
    for _ in range(ATTEMPTS):
        sent = [floats(number) for number in range(MAX_BATCH_SIZE)]
        futures = [server.predict_later(predict_request("half", {"x": x})) for x in sent]
        found = [values(future.result())["y"] for future in futures]
        equal(found, [(x / 2 + 3).tolist() for x in sent], "outputs")


@batching.case()
def too_large(server: Server) -> None:
    """A request with more rows than max_batch_size: INVALID_ARGUMENT."""
    size = MAX_BATCH_SIZE + 1
    message = f"Task size {size} is larger than maximum input batch size {MAX_BATCH_SIZE}"
    reply = server.predict(predict_request("half", _rows(size)))
    refused(reply, CODE.INVALID_ARGUMENT, parts=[message])


@batching.case()
def scalar(server: Server) -> None:
    """An input without a batch axis: INVALID_ARGUMENT."""
    reply = server.predict(predict_request("half", {"x": np.float32(1)}, signature="scalar"))
    message = "Batching Run() input tensors must have at least one dimension"
    refused(reply, CODE.INVALID_ARGUMENT, parts=[message])


@batching.case()
def no_rows(server: Server) -> None:
    """A batch of 0 rows gets no answer before its deadline."""
    reply = server.predict(predict_request("half", _rows(0)), timeout=1.0)
    refused(reply, CODE.DEADLINE_EXCEEDED)
    accepted(server.predict(predict_request("half", _rows(1))))
