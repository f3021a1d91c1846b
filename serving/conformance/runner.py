"""Runs the cases against a server and prints the results."""

from __future__ import annotations

import dataclasses
import re
import time

import grpc

from vatt_tf.errors import UserError
from vatt_tf.serving.conformance.cases import (
    batching,
    examples,
    predict,
    reload,
    rest,
    status,
    versions,
)
from vatt_tf.serving.conformance.cases.connection import Server
from vatt_tf.serving.conformance.models import SERVED
from vatt_tf.serving.conformance.suite import Case, Disagreement, NotApplicable

# Questions first, then what changes the server.
GROUPS = (
    predict.predict,
    examples.examples,
    status.metadata,
    status.status,
    status.health,
    rest.rest,
    rest.metrics,
    batching.batching,
    versions.versions,
    reload.reload,
)
CASES = tuple(case for group in GROUPS for case in group.cases)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Result of a case.

    Attributes:
        case: The case.
        verdict: "ok", "FAIL" or "skip".
        detail: What was expected and found, or why the case does not apply.
        seconds: Wall time.
    """

    case: Case
    verdict: str
    detail: str
    seconds: float


def run(
    server: Server, only: re.Pattern[str] = re.compile(""), quiet: bool = False
) -> list[Outcome]:
    """Runs the cases one by one and prints a line for each and a summary.

    Args:
        server: The server; it serves the suite's models.
        only: Cases whose name it does not match are left out.
        quiet: Print lines about failures only, and the summary.

    Returns:
        The outcomes.

    Raises:
        UserError: If no case matches, or there is no server with the suite's models.
    """
    cases = [case for case in CASES if only.search(case.name)]
    if not cases:
        raise UserError(f"no case matches {only.pattern!r}; names are like {CASES[0].name}")
    _wait_until_ready(server)
    outcomes = []
    for case in cases:
        outcome = run_case(case, server)
        outcomes.append(outcome)
        if quiet and outcome.verdict != "FAIL":
            continue
        print(f"{outcome.verdict:4}  {case.name:38} {outcome.seconds:6.2f} s", flush=True)
        if outcome.verdict == "FAIL":
            print(f"      promise: {case.promise}\n      {outcome.detail}", flush=True)
    counts = {key: sum(item.verdict == key for item in outcomes) for key in ("ok", "FAIL", "skip")}
    print(f"\n{counts['ok']} passed, {counts['FAIL']} failed, {counts['skip']} skipped")
    for reason in sorted({item.detail for item in outcomes if item.verdict == "skip"}):
        number = sum((item.verdict, item.detail) == ("skip", reason) for item in outcomes)
        print(f"  {number} skipped: {reason}")
    return outcomes


def run_case(case: Case, server: Server) -> Outcome:
    """Runs one case; whatever happens in it is an outcome, so that the suite goes on."""
    missing = case.needs - server.features
    if missing:
        return Outcome(case, "skip", f"needs {', '.join(sorted(missing))}", 0.0)
    started = time.monotonic()
    try:
        case.check(server)
        verdict, detail = "ok", ""
    except NotApplicable as error:
        verdict, detail = "skip", str(error)
    except Disagreement as error:
        verdict, detail = "FAIL", str(error)
    except (grpc.RpcError, OSError, ValueError, TypeError, LookupError) as error:
        # A reply of another form than the case reads, or no reply at all.
        verdict, detail = "FAIL", f"unexpected answer: {type(error).__name__}: {error}"
    return Outcome(case, verdict, detail, time.monotonic() - started)


def _wait_until_ready(server: Server) -> None:
    """Waits for the suite's models.

    Raises:
        UserError: If they are not there after the server's patience.
    """
    try:
        grpc.channel_ready_future(server.channel).result(timeout=server.patience)
    except grpc.FutureTimeoutError:
        raise UserError(
            f"--server={server.target}: nothing answers there after {server.patience:g} s"
        ) from None

    def missing() -> list[str]:
        return [name for name in SERVED if "AVAILABLE" not in server.states(name).values()]

    if not server.wait_for(lambda: not missing()):
        raise UserError(
            f"--server={server.target}: not available there: {', '.join(missing())}; start it with "
            "the models.config of python -m vatt_tf.serving.conformance.models"
        )
