"""Benchmarks of the embedded server; the sides of a comparison take turns in one run.

Usage::

    python -m vatt_tf.serving.benchmark overhead --models=MODELS --out=FOLDER
    python -m vatt_tf.serving.benchmark batching --models=MODELS --out=FOLDER
    python -m vatt_tf.serving.benchmark load --models=MODELS --out=FOLDER --minutes=10
    python -m vatt_tf.serving.benchmark hostile --models=MODELS --out=FOLDER --seconds=60
    python -m vatt_tf.serving.benchmark transport --models=MODELS --out=FOLDER

overhead: one call after the other, in turns to the SavedModel in this process and to the server.
batching: many clients at once, in turns to a server with and one without batching.
load:     full load while versions are added and removed; also draws memory and latency.
hostile:  short requests that would take the machine, beside a client with good ones.
transport: calls without model work, in turns to a plain gRPC server and to this one.
Each writes FOLDER/<name>.json and prints it.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import tempfile
from typing import Any

from vatt_tf import cli, paths
from vatt_tf.atomic import write_json
from vatt_tf.errors import UserError
from vatt_tf.output_folder import OutputFolder


def _clip(text: str) -> tuple[int, int, int]:
    sizes = text.split("x")
    if len(sizes) != 3 or not all(size.isdecimal() and int(size) for size in sizes):
        raise argparse.ArgumentTypeError(f"expected FRAMESxHEIGHTxWIDTH, found {text!r}")
    return int(sizes[0]), int(sizes[1]), int(sizes[2])


def _clips(text: str) -> tuple[tuple[int, int, int], ...]:
    return tuple(map(_clip, text.split(",")))


def build_parser() -> argparse.ArgumentParser:
    """Flags of ``python -m vatt_tf.serving.benchmark``."""
    parser = cli.ArgumentParser(
        prog="python -m vatt_tf.serving.benchmark",
        description=__doc__,
    )
    commands = parser.add_subparsers(dest="command", required=True, parser_class=cli.ArgumentParser)

    def command(name: str, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument(
            "--models", type=cli.path, required=True, help="folder written by vatt_tf.export"
        )
        sub.add_argument("--out", type=cli.path, required=True, help="folder for the figures")
        cli.add_quiet_flag(sub, "print no figures: they are in the folder")
        return sub

    overhead = command("overhead", "latency of the server against the SavedModel in process")
    overhead.add_argument(
        "--calls", type=cli.positive, default=200, help="calls each (default: 200)"
    )
    overhead.add_argument(
        "--batch", type=cli.positive, default=16, help="texts a call (default: 16)"
    )
    overhead.add_argument(
        "--clip", type=_clip, default=(32, 224, 224), help="clip size (default: 32x224x224)"
    )
    batching = command("batching", "throughput of many clients with and without batching")
    batching.add_argument("--clients", type=cli.positive, default=32, help="clients (default: 32)")
    batching.add_argument(
        "--seconds", type=cli.above_zero, default=10.0, help="length of a round (default: 10)"
    )
    batching.add_argument(
        "--rounds", type=cli.positive, default=5, help="rounds for each (default: 5)"
    )
    load = command("load", "full load while versions are added and removed")
    load.add_argument("--minutes", type=cli.above_zero, default=10.0, help="length (default: 10)")
    load.add_argument("--clients", type=cli.positive, default=32, help="clients (default: 32)")
    load.add_argument(
        "--version_seconds",
        type=cli.above_zero,
        default=10.0,
        help="seconds between two new versions (default: 10)",
    )
    load.add_argument(
        "--clips",
        type=_clips,
        default=(),
        help="sizes of clips, with commas between, that go to the video model as well",
    )
    hostile = command("hostile", "hostile clients beside a good one")
    hostile.add_argument(
        "--seconds", type=cli.above_zero, default=60.0, help="length of a phase (default: 60)"
    )
    transport = command("transport", "gRPC without model work, against a plain server")
    transport.add_argument(
        "--calls", type=cli.positive, default=2000, help="calls each (default: 2000)"
    )
    return parser


def overhead(
    models: str, out: pathlib.Path, *, calls: int, batch: int, clip: tuple[int, int, int]
) -> dict[str, Any]:
    """Compares calls to the server with calls to the SavedModel in this process.

    Both get a NumPy array and give a NumPy array back; the client's part of the work counts to
    the server's time.

    Args:
        models: Export folder; its text and video models are measured, whichever are there.
        out: Folder for overhead.json.
        calls: Calls each.
        batch: Texts a call.
        clip: Frames, height and width of the clip.

    Returns:
        Per case the percentiles of both and the ratio of the medians.
    """
    import numpy as np

    from vatt_tf.serving.benchmarks import tools
    from vatt_tf.serving.server.models import model_config

    found = model_config.find_models(models) if os.path.isdir(models) else {}
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (1, *clip, 3), dtype=np.uint8)
    cases = {
        "text": (f"text, batch of {batch}", "text", tools.texts(batch)),
        "video": (f"one clip {'x'.join(map(str, clip))} uint8", "frames", frames),
    }
    figures = {}
    with tools.ServerProcess(models) as server:
        for model, (title, alias, value) in cases.items():
            if model in found:
                figures[title] = _compare(server.address, models, model, alias, value, calls)
    if not figures:
        raise UserError(f"--models={models}: expected a text or video model, found neither")
    write_json(out / "overhead.json", figures)
    return figures


def _compare(
    address: str, models: str, model: str, alias: str, value: Any, calls: int
) -> dict[str, float]:
    import time

    import grpc
    import numpy as np
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  (ops of the tokenizer)
    from tensorflow_serving.apis import prediction_service_pb2_grpc

    from vatt_tf.serving.benchmarks import tools
    from vatt_tf.serving.server.requests import tensors

    with paths.readable_by_tensorflow(tools.version_folder(models, model)) as readable:
        loaded = tf.saved_model.load(readable)
    signature = loaded.signatures["serving_default"]

    def in_process() -> dict[str, np.ndarray]:
        outputs = signature(**{alias: tf.constant(value)})
        return {name: output.numpy() for name, output in outputs.items()}

    times: dict[str, list[float]] = {"in_process": [], "served": []}
    with grpc.insecure_channel(address, options=tools.CHANNEL_OPTIONS) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

        def served() -> dict[str, np.ndarray]:
            response = stub.Predict(tools.predict_request(model, alias, value), timeout=600)
            return {name: tensors.to_array(output) for name, output in response.outputs.items()}

        # Warms both up and checks that they agree.
        expected, answer = in_process(), served()
        difference = max(float(np.abs(expected[k] - answer[k]).max()) for k in expected)
        for _ in range(5):
            in_process()
            served()
        for _ in range(calls):
            for name, call in (("in_process", in_process), ("served", served)):
                started = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - started)
    figures: dict[str, float] = {"calls": calls, "max_abs_difference": difference}
    for name, seconds in times.items():
        for q in (50, 95):
            figures[f"{name}_p{q}_ms"] = round(tools.percentile(seconds, q) * 1e3, 3)
    figures["ratio_of_p50"] = round(figures["served_p50_ms"] / figures["in_process_p50_ms"], 3)
    return figures


def batching(
    models: str, out: pathlib.Path, *, clients: int, seconds: float, rounds: int
) -> dict[str, Any]:
    """Compares the throughput of single texts from many clients with and without batching.

    Args:
        models: Export folder with a text model.
        out: Folder for batching.json.
        clients: Clients that call without a pause.
        seconds: Length of a round.
        rounds: Rounds for each, in turns.

    Returns:
        Throughput and latencies of both, and the ratio of the throughputs.
    """
    import asyncio
    import time

    from vatt_tf.serving.benchmarks import tools

    tools.version_folder(models, "text")
    message = tools.predict_request("text", "text", tools.texts(1)).SerializeToString()
    threads = f"--grpc_max_threads={2 * clients}"
    seen = {"batched": tools.Calls(), "plain": tools.Calls()}
    walls = dict.fromkeys(seen, 0.0)
    with tempfile.NamedTemporaryFile("w", suffix=".config") as file:
        file.write(_batching_parameters(clients))
        file.flush()
        with (
            tools.ServerProcess(
                models, threads, "--enable_batching", f"--batching_parameters_file={file.name}"
            ) as batched,
            tools.ServerProcess(models, threads) as plain,
        ):
            addresses = {"batched": batched.address, "plain": plain.address}
            for turn in range(rounds + 1):  # The first one warms up and is not counted.
                for name, address in addresses.items():
                    calls = seen[name] if turn else tools.Calls()
                    started = time.perf_counter()
                    end = started + (seconds if turn else min(seconds, 3.0))
                    asyncio.run(
                        tools.call_for(
                            address,
                            [message],
                            clients,
                            lambda end=end: time.perf_counter() < end,
                            calls,
                        )
                    )
                    walls[name] += (time.perf_counter() - started) if turn else 0.0
    figures: dict[str, Any] = {name: calls.summary(walls[name]) for name, calls in seen.items()}
    figures["clients"] = clients
    figures["throughput_ratio"] = round(
        figures["batched"]["calls_per_second"] / max(figures["plain"]["calls_per_second"], 1e-9), 3
    )
    figures["p99_ratio"] = round(figures["batched"]["p99_ms"] / figures["plain"]["p99_ms"], 3)
    write_json(out / "batching.json", figures)
    return figures


def _batching_parameters(clients: int) -> str:
    """One batch at a time, for half of the clients: the next one fills while it runs."""
    return (
        f"max_batch_size {{ value: {max(clients // 2, 1)} }}\n"
        "batch_timeout_micros { value: 5000 }\n"
        "max_enqueued_batches { value: 1000 }\n"
        "num_batch_threads { value: 1 }\n"
    )


def main(argv: list[str] | None = None) -> int:
    """Entry point: parses the flags before TensorFlow is imported; returns the exit code."""
    args = build_parser().parse_args(argv)
    cli.before_tensorflow()

    def command() -> int:
        from vatt_tf.serving.benchmarks import hostile, transport
        from vatt_tf.serving.benchmarks import load as benchmark_load

        commands: dict[str, Any] = {
            "overhead": overhead,
            "batching": batching,
            "load": benchmark_load.run,
            "hostile": hostile.run,
            "transport": transport.run,
        }
        own = ("command", "models", "out", "quiet")
        flags = {name: value for name, value in vars(args).items() if name not in own}
        out = pathlib.Path(args.out)
        names = [f"{args.command}.json", *(["load.png"] if args.command == "load" else [])]
        OutputFolder(out, f"serving.{args.command}").claim(names)
        figures = commands[args.command](args.models, out, **flags)
        figures.pop("curve", None)
        if not args.quiet:
            print(json.dumps(figures, indent=2))
            print(f"written: {out / args.command}.json")
        return 0

    return cli.run(command)
