"""Serves SavedModels over gRPC and REST as tensorflow_model_server does.

Usage::

    python -m vatt_tf.serving --models=MODELS --port=8500 --rest_port=8501
    python -m vatt_tf.serving --model_config_file=models.config --rest_port=8501

MODELS is the folder that vatt_tf.export writes: <name>/<version>/saved_model.pb. New versions are
picked up while the server runs. SIGTERM ends it after the requests under way.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import resource
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

from vatt_tf import cli, keras_imports
from vatt_tf.errors import UserError
from vatt_tf.serving.server.models.options import BatchingOptions, ServerOptions

if TYPE_CHECKING:
    from vatt_tf.serving.server.embedded import Server
    from vatt_tf.serving.server.models.model_config import ModelServerConfig

# Exit code of tensorflow_model_server when it cannot start.
EXIT_NOT_STARTED = 255
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_MOST_FILES = 65_536


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise argparse.ArgumentTypeError(f"expected true or false, found {text!r}")
    return text.lower() in ("true", "1")


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, found {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of seconds >= 0, found {text!r}")
    return value


def _tags(text: str) -> tuple[str, ...]:
    return tuple(tag for tag in text.split(",") if tag)


# Flag -> (type, help); the defaults are those of ServerOptions.
_FLAGS: dict[str, tuple[Any, str]] = {
    "port": (_port, "port of gRPC; 0 takes a free one"),
    "host": (str, "address to listen on"),
    "file_system_poll_wait_seconds": (
        _seconds,
        "seconds between two scans of the model folders; 0: only at start and after a reload",
    ),
    "max_num_load_retries": (cli.whole, "attempts after the first, before a version is given up"),
    "load_retry_interval_micros": (cli.whole, "pause between two attempts"),
    "allow_version_labels_for_unavailable_models": (
        _boolean,
        "new version labels may point to versions that are not loaded yet",
    ),
    "saved_model_tags": (_tags, "tags of the graph to load, with commas"),
    "enable_model_warmup": (_boolean, "replay the warm-up requests of a version"),
    "enable_per_model_batching_parameters": (
        _boolean,
        "read batching_params.pbtxt in the version folders",
    ),
    "grpc_max_threads": (cli.positive, "gRPC calls answered at a time; more are refused"),
    "rest_api_num_threads": (cli.positive, "REST calls answered at a time; more wait"),
    "rest_api_timeout_in_ms": (cli.positive, "time limit of a REST call"),
    "tensorflow_session_parallelism": (cli.whole, "threads of TensorFlow; 0: it decides"),
    "tensorflow_intra_op_parallelism": (cli.whole, "threads within an op, instead"),
    "tensorflow_inter_op_parallelism": (cli.whole, "threads between ops, instead"),
    "enable_grpc_healthcheck_service": (_boolean, "answer grpc.health.v1"),
    "enable_serialization_as_tensor_content": (
        _boolean,
        "Predict replies carry tensor_content, not typed fields",
    ),
    "enable_config_reload": (_boolean, "let clients replace the list of models"),
    "max_request_bytes": (cli.positive, "largest gRPC message"),
    "max_rest_body_bytes": (cli.positive, "largest REST body, also after unpacking"),
    "max_request_strings": (cli.positive, "most strings or examples of a request"),
    "max_filled_bytes": (cli.whole, "most bytes of values that a tensor may leave out"),
    "max_call_seconds": (cli.above_zero, "longest gRPC call, also of one without a deadline"),
    "max_connections": (cli.positive, "connections of each port"),
    "connection_idle_seconds": (cli.above_zero, "how long a connection stays without a request"),
}


_METAVARS = {
    _boolean: "BOOL",
    _port: "PORT",
    _seconds: "SECONDS",
    _tags: "TAGS",
    cli.above_zero: "SECONDS",
    cli.positive: "N",
    cli.whole: "N",
    str: "ADDRESS",
}


def build_parser() -> argparse.ArgumentParser:
    """Flags of ``python -m vatt_tf.serving``."""
    parser = cli.ArgumentParser(
        prog="python -m vatt_tf.serving",
        description=__doc__,
    )
    what = parser.add_argument_group("what is served (one of the three)")
    what.add_argument(
        "--models", type=cli.path, help="folder of models, each with numbered version folders"
    )
    what.add_argument("--model_base_path", type=cli.path, help="base path of one model (absolute)")
    what.add_argument("--model_name", default="default", help="its name (default: default)")
    what.add_argument("--model_config_file", type=cli.path, help="ModelServerConfig in text format")
    what.add_argument(
        "--model_config_file_poll_wait_seconds",
        type=_seconds,
        metavar="SECONDS",
        default=0.0,
        help="seconds between two reads of the model_config_file; 0: only at start",
    )
    how = parser.add_argument_group("how")
    how.add_argument(
        "--rest_port",
        "--rest_api_port",
        type=_port,
        help="port of REST and metrics; 0 takes a free one (default: no REST)",
    )
    how.add_argument(
        "--enable_batching",
        type=_boolean,
        nargs="?",
        const=True,
        default=False,
        help="run requests that wait together in one batch",
    )
    how.add_argument(
        "--batching_parameters_file", type=cli.path, help="BatchingParameters in text format"
    )
    how.add_argument(
        "--monitoring_config_file",
        type=cli.path,
        help="MonitoringConfig in text format: metrics for Prometheus",
    )
    how.add_argument(
        "--ssl_config_file",
        type=cli.path,
        help="SSLConfig in text format: encrypts gRPC and REST; its fields hold PEM text",
    )
    defaults = ServerOptions()
    for name, (kind, text) in _FLAGS.items():
        default = getattr(defaults, name)
        shown = ",".join(default) if isinstance(default, tuple) else str(default).lower()
        extra: dict[str, Any] = {"metavar": _METAVARS[kind]}
        if kind is _boolean:
            extra |= {"nargs": "?", "const": True}
        how.add_argument(
            f"--{name}", type=kind, default=default, help=f"{text} (default: {shown})", **extra
        )
    return parser


def _options(args: argparse.Namespace) -> ServerOptions:
    """Options of the server; reads the files that flags name."""
    from vatt_tf.serving.server.models import config_files, tls

    options = ServerOptions(
        rest_port=args.rest_port, **{name: getattr(args, name) for name in _FLAGS}
    )
    if args.batching_parameters_file and not args.enable_batching:
        raise UserError("--batching_parameters_file needs --enable_batching")
    if args.enable_per_model_batching_parameters and not args.enable_batching:
        raise UserError("--enable_per_model_batching_parameters needs --enable_batching")
    if args.enable_batching:
        batching = BatchingOptions()
        if args.batching_parameters_file:
            batching = config_files.read_batching(args.batching_parameters_file)
        options = dataclasses.replace(options, batching=batching)
    if args.monitoring_config_file:
        if args.rest_port is None:
            raise UserError("--monitoring_config_file needs --rest_port: metrics are served there")
        path = config_files.read_metrics_path(args.monitoring_config_file)
        options = dataclasses.replace(options, metrics_path=path)
    if args.ssl_config_file:
        options = dataclasses.replace(options, tls=tls.read(args.ssl_config_file))
    return options


def _models(args: argparse.Namespace) -> str | ModelServerConfig:
    """Models to serve."""
    from vatt_tf.serving.server.models import config_files, model_config

    given = [
        name
        for name in ("models", "model_base_path", "model_config_file")
        if getattr(args, name) is not None
    ]
    if len(given) != 1:
        raise UserError(
            "expected one of --models, --model_base_path and --model_config_file, found "
            + (" and ".join(f"--{name}" for name in given) or "none")
        )
    if args.model_config_file_poll_wait_seconds and not args.model_config_file:
        raise UserError("--model_config_file_poll_wait_seconds needs --model_config_file")
    if args.models is not None:
        return args.models
    if args.model_base_path is not None:
        return model_config.models_config({args.model_name: args.model_base_path})
    return config_files.read_models(args.model_config_file)


class _Terminated(BaseException):
    """Raised by the handler of SIGTERM and SIGINT, to shut down from any point."""


def _terminate(number: int, frame: object) -> None:
    # A second signal ends the process at once.
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, signal.SIG_DFL)
    raise _Terminated


def serve(args: argparse.Namespace) -> int:
    """Serves until a signal comes; returns the exit code."""
    models, options = _models(args), _options(args)
    keras_imports.import_lean("tensorflow")  # It brings Keras.
    from vatt_tf.serving.server import embedded as server_lib
    from vatt_tf.serving.server.models.status import ServingError

    _allow_files()
    signals = (signal.SIGTERM, signal.SIGINT)
    before = {name: signal.signal(name, _terminate) for name in signals}
    server = None
    try:
        server = server_lib.start_server(models, options)
        print(f"Running gRPC ModelServer at {options.host}:{server.port} ...", flush=True)
        if server.rest_port is not None:
            print(f"Exporting HTTP/REST API at:{options.host}:{server.rest_port} ...", flush=True)
        if options.host not in _LOOPBACK and not (options.tls and options.tls.client_verify):
            print(f"note: {_open_door(options)}", flush=True)
        _wait(server, args)
    except _Terminated:
        print("Shutting down ...", flush=True)
    except ServingError as error:
        print(f"Failed to start server. Error: {error}", file=sys.stderr, flush=True)
        return EXIT_NOT_STARTED
    finally:
        if server is not None:
            server.stop()
        for name, handler in before.items():
            signal.signal(name, handler)
    return 0


def _open_door(options: ServerOptions) -> str:
    """Words about what whoever reaches the ports can do."""
    what = "ask the models"
    if options.enable_config_reload:
        what += " and replace their list (--enable_config_reload=false)"
    return f"whoever reaches {options.host} can {what}; --ssl_config_file can ask for certificates"


def _allow_files() -> None:
    """Raises the limit of open files to what the process may have: a connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _wait(server: Server, args: argparse.Namespace) -> None:
    """Waits for a signal; applies a changed --model_config_file meanwhile."""
    from vatt_tf.serving.server.models import config_files
    from vatt_tf.serving.server.models.status import ServingError

    seconds = args.model_config_file_poll_wait_seconds
    if not seconds:
        threading.Event().wait()
    current = config_files.read_models(args.model_config_file)
    while True:
        threading.Event().wait(seconds)
        try:
            config = config_files.read_models(args.model_config_file)
            if config != current:
                server.manager.apply_config(config)
                current = config
        except (UserError, ServingError) as error:
            # The server goes on with what it has; the file is looked at again.
            logging.error("--model_config_file not applied: %s", error)


def main(argv: list[str] | None = None) -> int:
    """Entry point: parses the flags before TensorFlow is imported; returns the exit code."""
    args = build_parser().parse_args(argv)
    cli.before_tensorflow()
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname).1s %(name)s: %(message)s"
    )
    return cli.run(lambda: serve(args))


if __name__ == "__main__":
    sys.exit(main())
