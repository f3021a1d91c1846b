"""Runs a benchmark: processes of each precision, the reference beside them, round by round."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import pathlib
import platform
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from vatt_tf.benchmarking.batches import read_config
from vatt_tf.benchmarking.memory import machine_bytes
from vatt_tf.benchmarking.protocol import Subject
from vatt_tf.benchmarking.table import Timing, ratios, whole_run
from vatt_tf.data.input.pipeline import TRAINING_SPLITS
from vatt_tf.data.shards.index import list_shards
from vatt_tf.errors import UserError
from vatt_tf.models.flops import encoder_flops, step_flops
from vatt_tf.progress_bar import progress_bar
from vatt_tf.training.estimate import memory_bytes
from vatt_tf.training.tasks.config import RunConfig
from vatt_tf.training.tasks.registry import count_parameters

REFERENCE = "reference"
_WORKER = "vatt_tf.benchmarking.worker"


def measure(flags: argparse.Namespace, parts: Sequence[str]) -> dict[str, Any]:
    """Runs the benchmark and returns its results.

    Args:
        flags: The command line of ``vatt_tf.benchmark``.
        parts: What to measure.

    Raises:
        UserError: If the configuration is wrong or a part fails.
    """
    config = read_config(flags.gin_file, flags.gin_bindings)
    precisions = (flags.precision or config.precision).split(",")
    has_data = _has_data(config)
    arguments = [f"--gin_file={name}" for name in flags.gin_file]
    arguments += [f"--gin_bindings={binding}" for binding in flags.gin_bindings]
    if flags.threads:
        arguments.append(f"--threads={flags.threads}")
    names = list(part_names(config, parts))
    rounds = len(precisions) * len(names) * flags.rounds
    results: dict[str, Any] = {
        "machine": _machine(flags.threads),
        "configuration": {
            "gin_files": flags.gin_file,
            "bindings": flags.gin_bindings,
            "batch_size": config.sizes(1)[0],
            "micro_batch_size": config.sizes(1)[1],
            "steps": config.steps,
            "data": "configured" if has_data else "noise",
        },
        "peaks": {},
        "rows": [],
        "ratios": [],
        "estimates": {},
    }
    with (
        progress_bar("measuring", rounds, "parts", quiet=flags.quiet) as bar,
        contextlib.ExitStack() as stack,
    ):
        reference = None
        if flags.compare:
            reference = stack.enter_context(Subject("tests.reference.plain_worker", arguments))
        yardsticks: dict[str, Subject] = {}
        for precision in precisions:
            own = [*arguments, f"--precision={precision}", *(["--data"] if has_data else [])]
            if "peak" in names:
                # In its own process, so that its matrices do not count as memory of the others.
                yardsticks[precision] = stack.enter_context(Subject(_WORKER, own))
                yardsticks[precision].prepare("peak")
            with Subject(_WORKER, own) as subject:
                if reference is not None:
                    difference = _same_outputs(subject, reference)
                    results.setdefault("output_difference", {})[precision] = difference
                timings = _rounds(
                    config, subject, reference, yardsticks, names, precision, has_data, flags, bar
                )
            _add(results, timings, precision, config, flags.price_per_hour)
    return results


def part_names(config: RunConfig, parts: Sequence[str]) -> Iterator[str]:
    """Expands the parts of the command line to one for each tower.

    Raises:
        UserError: If the model has no such tower.
    """
    for part in parts:
        towers = config.model_config.towers
        if part == "towers":
            for what in ("forward", "train"):
                yield from (f"{what}/{modality}" for modality in towers)
        elif part == "export":
            yield from (f"export/{modality}" for modality in towers if modality != "text")
        elif "/" in part and part.split("/")[1] not in towers:
            raise UserError(
                f"--parts: {part}: the model has no such tower, but {', '.join(towers)}"
            )
        else:
            yield part


def _in_reference(name: str, has_data: bool) -> bool:
    """Whether the reference has this part; of input it reads noise only."""
    part = name.split("/")[0]
    return part in ("forward", "train", "step", "export") or (part == "input" and not has_data)


def _rounds(
    config, subject, reference, yardsticks, names, precision, has_data, flags, bar
) -> list[Timing]:
    """Measures ours, the reference's and the machine's peak in turns, part by part."""
    timings: list[Timing] = []
    for name in names:
        bar.set_postfix_str(f"{name}, {precision}")
        places = [(precision, subject if name != "peak" else yardsticks[precision])]
        if reference is not None and _in_reference(name, has_data):
            places.append((REFERENCE, reference))
        found = {}
        for variant, place in places:
            place.prepare(name)
            flops, clips = _work(config, name)
            found[variant] = Timing(name, variant, [], flops, clips)
        for _ in range(flags.rounds):
            for variant, place in places:
                answer, timing = place.measure(name), found[variant]
                timing.seconds.append(answer["seconds"])
                timing.flops = answer.get("flops", timing.flops)
                timing.peak_bytes = max(timing.peak_bytes, answer["peak_bytes"])
                timing.passing_bytes = max(timing.passing_bytes, answer["passing_bytes"])
                timing.waiting = answer.get("waiting") if name == "run" else None
                # The reference computes in float32.
                yardstick = yardsticks.get("float32" if variant == REFERENCE else precision)
                if yardstick is not None and timing.flops:
                    timing.peaks.append(_peak(yardstick, answer["seconds"]))
            bar.update()
        timings += found.values()
    return timings


def _peak(yardstick: Subject, seconds: float) -> float:
    """Measures the machine's FLOP/s, over the time of the compared part, at most two seconds."""
    answer = yardstick.measure("peak", least_seconds=min(seconds, 2.0))
    return answer["flops"] / answer["seconds"]


def _work(config: RunConfig, name: str) -> tuple[float, int]:
    """FLOPs by the model's count, and clips, of one run of a part."""
    batch, micro = config.sizes(1)
    part, _, modality = name.partition("/")
    if part in ("step", "run"):
        total = step_flops(config.model_config, batch, texts=config.clip.texts)["total"]
        return total, batch
    if part == "input":
        return 0.0, batch
    if part == "peak":
        return 0.0, 0
    training = part == "train"
    per_clip = encoder_flops(config.model_config.towers[modality], training=training)
    per_clip *= config.clip.texts if modality == "text" else 1
    return (3.0 * micro * per_clip, micro) if training else (float(per_clip), 1)


def _same_outputs(subject: Subject, reference: Subject) -> float:
    """Largest difference of an embedding from the reference's, both with the same weights."""
    with tempfile.TemporaryDirectory() as folder:
        files = [str(pathlib.Path(folder, name)) for name in ("weights.npz", "ours.npz", "its.npz")]
        subject.ask(do="weights", path=files[0])
        reference.ask(do="weights", path=files[0])
        subject.ask(do="embed", path=files[1])
        reference.ask(do="embed", path=files[2])
        ours, its = np.load(files[1]), np.load(files[2])
        scale = max(float(np.abs(its[name]).max()) for name in its.files)
        return max(float(np.abs(ours[n] - its[n]).max()) for n in its.files) / scale


def _add(results, timings, precision, config, price_per_hour) -> None:
    """Adds the rows of one precision, the ratios and the estimate of the whole run."""
    by_part = {(timing.part, timing.variant): timing for timing in timings}
    peaks = [peak for timing in timings if timing.variant == precision for peak in timing.peaks]
    if peaks:
        results["peaks"][precision] = statistics.median(peaks)
    for timing in timings:
        results["rows"].append(timing.row())
        compared = by_part.get((timing.part, REFERENCE))
        if compared is not None and timing is not compared:
            values = ratios(timing, compared)
            results["ratios"].append({"part": timing.part, "variant": precision, **values})
    step = by_part.get(("step", precision))
    slowest = by_part.get(("run", precision)) or step
    if slowest is not None:
        estimate: dict[str, Any] = whole_run(config.steps, slowest.median, price_per_hour)
        if step is not None:
            estimate["memory"] = _memory(
                dataclasses.replace(config, precision=precision), step.peak_bytes
            )
        results["estimates"][precision] = estimate


def _memory(config: RunConfig, measured: int) -> list[dict[str, float]]:
    """Peak memory by micro-batch: computed, and shifted to agree with what was measured."""
    parameters = count_parameters(config)
    batch, micro = config.sizes(1)

    def computed(size: int) -> float:
        changed = dataclasses.replace(config, micro_batch_size=size)
        return memory_bytes(changed, parameters, 1)["total"]

    shift = measured - computed(micro)
    sizes = [size for size in range(1, batch + 1) if batch % size == 0]
    return [{"micro_batch_size": size, "bytes": computed(size) + shift} for size in sizes]


def _has_data(config: RunConfig) -> bool:
    """Whether the configured shards are there (the sample set need not have been made)."""
    try:
        return all(list_shards(source.path, TRAINING_SPLITS) for source in config.data)
    except UserError:
        return False


def _machine(threads: int | None) -> dict[str, Any]:
    import tensorflow as tf

    model = platform.processor()
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        names = [line.split(": ", 1)[1] for line in lines if line.startswith("model name")]
        model = names[0] if names else model
    gpus = [
        tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
        for gpu in tf.config.list_physical_devices("GPU")
    ]
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "threads": threads,
        "gpus": gpus,
        "memory_bytes": machine_bytes(),
        "tensorflow": tf.__version__,
    }
