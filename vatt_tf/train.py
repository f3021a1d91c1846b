"""Trains a model: ``python -m vatt_tf.train --gin_file=gin_configs/lbs.gin``.

The configuration says whether it pre-trains (train.*) or fine-tunes (finetune.*), for example with
``--gin_file=gin_configs/finetune/video.gin``.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import resource
import sys

from vatt_tf import cli
from vatt_tf.errors import UserError


def parser() -> argparse.ArgumentParser:
    """The command line (TensorFlow is not imported before it has been read)."""
    flags = cli.ArgumentParser(prog="python -m vatt_tf.train", description=__doc__)
    flags.add_argument(
        "--gin_file",
        action="append",
        required=True,
        help="configuration file, repeatable; a name such as tiny.gin is found in the package",
    )
    flags.add_argument(
        "--gin_bindings",
        "--gin_param",
        action="append",
        default=[],
        help='binding that overrides the files, repeatable: "STEPS=100", "TRAIN_DATA=\'x\'"',
    )
    flags.add_argument(
        "--run_dir", help="folder of the run; default: runs/<name of the last gin file>"
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
    return flags


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    flags = parser().parse_args(argv)
    return cli.run(lambda: _train(flags))


def _train(flags: argparse.Namespace) -> int:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from vatt_tf import config

    config.import_configurables()
    config.parse(flags.gin_file, flags.gin_bindings)

    import tensorflow as tf

    from vatt_tf.training import estimate, run
    from vatt_tf.training.config import TrainConfig
    from vatt_tf.training.finetune_config import FinetuneConfig
    from vatt_tf.training.strategy import create_strategy

    if flags.stop_at_step is not None and flags.stop_at_step < 1:
        raise UserError(f"--stop_at_step={flags.stop_at_step}: expected 1 or more")
    if flags.logical_cpus > 1:
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0],
            [tf.config.LogicalDeviceConfiguration()] * flags.logical_cpus,
        )
    strategy = create_strategy(flags.strategy, flags.tpu)
    kinds = {"train": TrainConfig, "finetune": FinetuneConfig}
    train_config = kinds[config.only_configured(tuple(kinds))]()
    if flags.dry_run:
        print(config.config_text())
        print(estimate.describe(train_config, strategy.num_replicas_in_sync))
        _report_unused(config.unused_bindings())
        return 0
    run_dir = flags.run_dir or os.path.join("runs", pathlib.Path(flags.gin_file[-1]).stem)
    print(estimate.summary(train_config, strategy.num_replicas_in_sync, run_dir), file=sys.stderr)
    step = run.run(train_config, run_dir, strategy, flags.stop_at_step)
    _report_unused(config.unused_bindings())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(
        f"{run_dir}: step {step}, weights in {run_dir}/model.weights.h5; "
        f"peak memory of the process {peak:.2f} GB"
    )
    return 0


def _report_unused(names: list[str]) -> None:
    if names:
        print(f"warning: nothing read these bindings: {', '.join(names)}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
