"""Sends malformed requests to a server of exported models; each must get the right code.

Usage::

    python -m vatt_tf.serving.fuzz --server=localhost:8500 --requests=10000 --seed=0

A second client sends good requests all the while: none may fail, and they must not become slower
than beside as many good requests. Prints a table of the kinds. Exit code: 0 if all is well, 1 if
not, 2 if nothing could be sent. ``--first=I --requests=1`` sends request I of a seed again.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import dataclasses
import sys
import time
from typing import TYPE_CHECKING, Any

from vatt_tf import cli
from vatt_tf.errors import UserError
from vatt_tf.serving.conformance.bystander import Bystander, running
from vatt_tf.wording import wrapped

if TYPE_CHECKING:
    from vatt_tf.serving.conformance.cases.connection import Server
    from vatt_tf.serving.conformance.cases.malformed import Target

MODELS = ("video", "audio", "text")
# Most wrong replies that are printed in full.
SHOWN = 10


@dataclasses.dataclass(frozen=True)
class Answer:
    """Answer to one malformed request."""

    index: int
    kind: str
    target: str
    code: str
    message: str
    right: bool


def fuzz(
    server: Server,
    targets: list[Target],
    *,
    requests: int,
    seed: int = 0,
    first: int = 0,
    clients: int = 4,
    quiet_seconds: float = 5.0,
    max_slowdown: float = 1.5,
) -> bool:
    """Sends the requests and prints the table.

    Args:
        server: The server.
        targets: Signatures to call; see :func:`malformed.find_targets`.
        requests: Number of malformed requests.
        seed: Another seed, other requests.
        first: Number of the first request.
        clients: Requests under way at once.
        quiet_seconds: Length of the two phases to compare with: no other client, and as many
            clients with good requests.
        max_slowdown: How much slower the second client's median may become.

    Returns:
        Whether every answer was right and the second client was not disturbed.
    """
    good = [target.request().SerializeToString() for target in targets]
    cheapest = min(good, key=len)
    call = server.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    times = []
    with (
        running(server.target, cheapest) as bystander,
        concurrent.futures.ThreadPoolExecutor(clients) as pool,
    ):
        for request in good:
            reply = server.call(call, request)
            if reply.response is None:
                raise UserError(
                    f"{server.target} refuses a good request: {reply.code.name}: {reply.message}"
                )
        bystander.wait_until_ready()
        times.append(time.monotonic())
        time.sleep(quiet_seconds)
        times.append(time.monotonic())
        _send_good(server, call, good, pool, clients, times[-1] + quiet_seconds)
        times.append(time.monotonic())

        def send(index: int) -> Answer:
            return _send(server, call, seed, index, targets)

        answers = list(pool.map(send, range(first, first + requests)))
        times.append(time.monotonic())
        bystander.finish()
    wrong = _print_replies(answers)
    calm = _print_bystander(bystander, times, max_slowdown)
    return not wrong and calm


def _send_good(
    server: Server,
    call: Any,
    good: list[bytes],
    pool: concurrent.futures.Executor,
    clients: int,
    end: float,
) -> None:
    def keep_sending(start: int) -> None:
        number = start
        while time.monotonic() < end:
            server.call(call, good[number % len(good)])
            number += 1

    list(pool.map(keep_sending, range(clients)))


def _send(server: Server, call: Any, seed: int, index: int, targets: list[Target]) -> Answer:
    from vatt_tf.serving.conformance.cases.malformed import malformed

    kind, target, request = malformed(seed, index, targets)
    reply = server.call(call, request, kind.timeout)
    name = f"{target.model}/{target.signature}"
    right = reply.code in kind.codes
    return Answer(index, kind.name, name, reply.code.name, reply.message, right)


def _print_replies(replies: list[Answer]) -> int:
    """Prints the table of kinds; returns the number of wrong replies."""
    kinds = collections.defaultdict(list)
    for answer in replies:
        kinds[answer.kind].append(answer)
    print(f"{'kind':20} {'sent':>6} {'wrong':>6}  codes")
    for kind, group in sorted(kinds.items()):
        codes = collections.Counter(answer.code for answer in group)
        wrong = sum(not answer.right for answer in group)
        listed = ", ".join(f"{code} {count}" for code, count in codes.most_common())
        print(wrapped(f"{kind:20} {len(group):6} {wrong:6}  {listed}"))
    wrong_answers = [answer for answer in replies if not answer.right]
    print(f"{'all':20} {len(replies):6} {len(wrong_answers):6}")
    for answer in wrong_answers[:SHOWN]:
        print(
            f"request {answer.index}: {answer.kind} to {answer.target} got {answer.code} "
            f"{answer.message[:200]!r}"
        )
    return len(wrong_answers)


def _print_bystander(bystander: Bystander, times: list[float], max_slowdown: float) -> bool:
    """Prints the second client's latencies; returns whether they were unaffected."""
    medians = []
    names = ("alone", "beside good requests", "beside malformed requests")
    print("\ngood requests of the second client")
    for name, start, end in zip(names, times[:-1], times[1:], strict=True):
        latencies = bystander.latencies(start, end)
        if not latencies:
            raise UserError(f"no good request {name} in {end - start:.1f} s: send more requests")
        p50, p99 = (latencies[int(share * (len(latencies) - 1))] for share in (0.5, 0.99))
        medians.append(p50)
        print(f"{name:26} {len(latencies):6}   p50 {p50 * 1e3:7.1f} ms   p99 {p99 * 1e3:7.1f} ms")
    slowdown = medians[2] / max(medians[:2])
    failures = bystander.failures()
    print(f"slowdown of the median: {slowdown:.2f} (at most {max_slowdown:g})")
    print(f"failed: {failures or 'none'}")
    return slowdown <= max_slowdown and not failures


def build_parser() -> argparse.ArgumentParser:
    """Flags of ``python -m vatt_tf.serving.fuzz``."""
    parser = cli.ArgumentParser(
        prog="python -m vatt_tf.serving.fuzz",
        description=__doc__,
    )
    add = parser.add_argument
    add("--server", required=True, metavar="HOST:PORT", help="address of the gRPC service")
    add("--models", default=",".join(MODELS), help="models to send to (default: video,audio,text)")
    add("--requests", type=int, default=10_000, help="malformed requests (default: 10000)")
    add("--seed", type=int, default=0, help="another seed, other requests (default: 0)")
    add("--first", type=int, default=0, metavar="I", help="number of the first request")
    add("--clients", type=int, default=4, help="requests under way at once (default: 4)")
    add("--quiet_seconds", type=float, default=5.0, help="length of the phases to compare with")
    add(
        "--max_slowdown",
        type=float,
        default=1.5,
        help="how much slower the second client's median may become (default: 1.5)",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    args = build_parser().parse_args(argv)

    def command() -> int:
        models = args.models.split(",")
        unknown = sorted(set(models) - set(MODELS))
        if unknown:
            raise UserError(f"--models={args.models}: {unknown[0]} is none of {', '.join(MODELS)}")
        for flag, least in (("requests", 1), ("clients", 1), ("first", 0), ("seed", 0)):
            if getattr(args, flag) < least:
                raise UserError(f"--{flag}={getattr(args, flag)}: expected {least} or more")
        from vatt_tf.serving.conformance.cases.connection import Server
        from vatt_tf.serving.conformance.cases.malformed import find_targets

        with Server(args.server) as server:
            peaceful = fuzz(
                server,
                find_targets(server, models),
                requests=args.requests,
                seed=args.seed,
                first=args.first,
                clients=args.clients,
                quiet_seconds=args.quiet_seconds,
                max_slowdown=args.max_slowdown,
            )
        return 0 if peaceful else 1

    return cli.run(command)


if __name__ == "__main__":
    sys.exit(main())
