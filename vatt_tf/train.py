"""Trains a model: ``python -m vatt_tf.train --gin_file=gin_configs/lbs.gin``.

The configuration selects pre-training (train.*) or fine-tuning (finetune.*), for example with
``--gin_file=gin_configs/finetune/video.gin``.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
from collections.abc import Sequence

from vatt_tf import cli, keras_imports
from vatt_tf.benchmarking import memory
from vatt_tf.errors import UserError
from vatt_tf.training.cluster.local_workers import run_workers
from vatt_tf.training.cluster.preemption import Preemption
from vatt_tf.training.cluster.workers import PeerWatch, cluster_config, workers_in_environment


def parser() -> argparse.ArgumentParser:
    """Builds the parser (TensorFlow is imported after the flags are parsed)."""
    flags = cli.ArgumentParser(prog="python -m vatt_tf.train", description=__doc__)
    cli.add_gin_flags(flags)
    flags.add_argument(
        "--run_dir",
        type=cli.path,
        help="folder of the run; default: runs/<name of the last gin file>",
    )
    flags.add_argument(
        "--dry_run",
        action="store_true",
        help="print the configuration, parameters, FLOPs and memory of a step; train nothing",
    )
    flags.add_argument(
        "--strategy",
        default="auto",
        choices=("auto", "one_device", "mirrored", "multi_worker", "tpu"),
        help="how the work is distributed (default: what the machine offers)",
    )
    flags.add_argument(
        "--worker_hosts",
        help="HOST:PORT of all workers, with commas: several hosts without TF_CONFIG; the same "
        "command runs on each, with its own --worker_index",
    )
    flags.add_argument("--worker_index", type=int, help="place of this host in --worker_hosts")
    flags.add_argument(
        "--workers",
        type=cli.positive,
        default=1,
        help="start this many workers on this machine, to try --strategy=multi_worker out",
    )
    flags.add_argument("--tpu", help="name or address of a Cloud TPU, or 'local'")
    flags.add_argument(
        "--logical_cpus",
        type=int,
        default=1,
        help="split the CPU into this many devices, to try out --strategy=mirrored",
    )
    flags.add_argument(
        "--stop_at_step",
        type=int,
        help="save and stop at this step, although schedules are made for all STEPS",
    )
    cli.add_module_flag(flags)
    cli.add_quiet_flag(flags)
    flags.add_argument(
        "--continue_on_new_data",
        action="store_true",
        help="continue a run on other data than it was trained on, with its own vocabulary",
    )
    return flags


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    flags = parser().parse_args(argv)
    if flags.workers > 1:
        return cli.run(lambda: _start_workers(argv, flags))
    return cli.run(lambda: _train_as_worker(flags))


def _start_workers(argv: Sequence[str], flags: argparse.Namespace) -> int:
    """Starts this command ``--workers`` times; the last of two equal flags counts."""
    if flags.worker_hosts or os.environ.get("TF_CONFIG"):
        raise UserError(
            f"--workers={flags.workers} starts a cluster on this machine, but --worker_hosts or "
            "TF_CONFIG names one already: leave one of them out"
        )
    again = [*argv, "--workers=1", "--strategy=multi_worker"]
    return run_workers([sys.executable, "-m", "vatt_tf.train", *again], flags.workers)


def _train_as_worker(flags: argparse.Namespace) -> int:
    """Trains, alone or as one of several workers; ends when another worker is lost."""
    if flags.worker_hosts or flags.worker_index is not None:
        if os.environ.get("TF_CONFIG"):
            raise UserError("--worker_hosts: TF_CONFIG is set too; unset it or leave the flag out")
        os.environ["TF_CONFIG"] = cluster_config(flags.worker_hosts or "", flags.worker_index)
    workers, own = workers_in_environment()
    saved_in = None if flags.dry_run else _run_dir(flags)
    # Before TensorFlow is imported, which takes seconds.
    with PeerWatch(workers, own, _run_dir(flags)), Preemption(saved_in) as preemption:
        return _train(flags, preemption)


def _run_dir(flags: argparse.Namespace) -> str:
    return flags.run_dir or os.path.join("runs", pathlib.Path(flags.gin_file[-1]).stem)


def _train(flags: argparse.Namespace, preemption: Preemption) -> int:
    cli.before_tensorflow()
    keras_imports.import_lean("keras", "orbit")  # Orbit brings Keras 2.
    from vatt_tf import config

    config.import_configurables()
    config.parse(flags.gin_file, flags.gin_bindings)

    import tensorflow as tf

    from vatt_tf.training import estimate, preflight, run
    from vatt_tf.training.cluster.strategy import create_strategy, wait_for_workers
    from vatt_tf.training.fingerprints import check_workers, fingerprints
    from vatt_tf.training.saving import run_folder
    from vatt_tf.training.tasks import run_data
    from vatt_tf.training.tasks.registry import as_trained, configured_run

    if flags.stop_at_step is not None and flags.stop_at_step < 1:
        raise UserError(f"--stop_at_step={flags.stop_at_step}: expected 1 or more")
    if flags.logical_cpus > 1:
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0],
            [tf.config.LogicalDeviceConfiguration()] * flags.logical_cpus,
        )
    strategy = create_strategy(flags.strategy, flags.tpu)
    train_config = configured_run()
    unread = _unread_head_options(flags.gin_bindings)
    if flags.dry_run:
        preflight.check_patches(train_config)
        print(config.config_text())
        planned, notes = as_trained(train_config, run_data.started_run(_run_dir(flags)))
        print(estimate.describe(planned, strategy.num_replicas_in_sync))
        for note in notes:
            print(f"note: {note}")
        _report_unused([*unread, *config.unused_bindings()])
        return 0
    run_dir = _run_dir(flags)
    run_folder.check(run_dir, bool(train_config.evaluate_every))
    check_workers(strategy, fingerprints(train_config, run_dir, flags.stop_at_step))
    step = run.run(
        train_config,
        run_dir,
        strategy,
        flags.stop_at_step,
        preemption,
        continue_on_new_data=flags.continue_on_new_data,
        quiet=flags.quiet,
    )
    wait_for_workers(strategy)  # here, when all of the run is put away on the slowest too
    _report_unused([*unread, *config.unused_bindings()])
    if flags.quiet:
        return 0
    peak = memory.process_peak() / 1e9
    print(
        f"{run_dir}: step {step}, weights in {run_dir}/model.weights.h5; "
        f"peak memory of the process {peak:.2f} GB"
    )
    return 0


def _unread_head_options(bindings: Sequence[str]) -> list[str]:
    """Options that the head does not read; those on the command line are a mistake."""
    from vatt_tf.heads.config import HeadConfig, unread_options

    unread = unread_options()
    for name in (binding.partition("=")[0].strip() for binding in bindings):
        if name in unread:
            head = HeadConfig()
            raise UserError(
                f"--gin_bindings={name}: common_space.kind = {head.kind!r} does not read it; "
                f"expected {' or '.join(head.widths)}"
            )
    return unread


def _report_unused(names: list[str]) -> None:
    if names:
        print(f"warning: nothing read these bindings: {', '.join(names)}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
