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
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from vatt_tf.benchmarking.batches import read_config
from vatt_tf.benchmarking.compared import REFERENCE, WORKER, Other, compared, layer_lines
from vatt_tf.benchmarking.memory import machine_bytes
from vatt_tf.benchmarking.protocol import LEAST_SECONDS, Subject
from vatt_tf.benchmarking.table import Timing, whole_run
from vatt_tf.data.input.pipeline import TRAINING_SPLITS
from vatt_tf.data.shards.index import list_shards
from vatt_tf.errors import UserError
from vatt_tf.models.flops import encoder_flops, step_flops
from vatt_tf.progress_bar import progress_bar
from vatt_tf.training.estimate import memory_bytes
from vatt_tf.training.tasks.config import RunConfig
from vatt_tf.training.tasks.registry import count_parameters


def measure(flags: argparse.Namespace, parts: Sequence[str]) -> dict[str, Any]:
    """Runs the benchmark and returns its results.

    Args:
        flags: The command line of ``vatt_tf.benchmark``.
        parts: What to measure.

    Raises:
        UserError: If the configuration is wrong or a part fails.
    """
    others = compared(flags.compare)
    config = read_config(flags.gin_file, flags.gin_bindings)
    precisions = (flags.precision or config.precision).split(",")
    batch, micro = config.sizes(1)
    if batch == micro and any(other.is_plain for other in others):
        raise UserError(
            f"--compare=plain: the step is plain, with MICRO_BATCH_SIZE={micro} and "
            f"BATCH_SIZE={batch}; set a larger BATCH_SIZE"
        )
    has_data = _has_data(config)
    arguments = [f"--gin_file={name}" for name in flags.gin_file]
    arguments += [f"--gin_bindings={binding}" for binding in flags.gin_bindings]
    if flags.threads:
        arguments.append(f"--threads={flags.threads}")
    alone, beside = _turns(list(part_names(config, parts)), others, has_data)
    rounds = len(precisions) * sum(map(len, [alone, *beside.values()])) * flags.rounds
    results: dict[str, Any] = {
        "machine": _machine(flags.threads),
        "configuration": {
            "gin_files": flags.gin_file,
            "bindings": flags.gin_bindings,
            "batch_size": batch,
            "micro_batch_size": micro,
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
        yardsticks: dict[str, Subject] = {}
        for precision in precisions:
            own = [*arguments, f"--precision={precision}", *(["--data"] if has_data else [])]
            if "peak" in alone:
                # In its own process, so that its matrices do not count as memory of the others.
                yardsticks[precision] = stack.enter_context(Subject(WORKER, own))
                yardsticks[precision].prepare("peak")
            timings = _Rounds(config, precision, yardsticks, flags.rounds, bar)
            with tempfile.TemporaryDirectory() as folder, Subject(WORKER, own) as ours:
                if REFERENCE in {other.name for other in others}:
                    difference = _same_outputs(own, arguments, folder)
                    results.setdefault("output_difference", {})[precision] = difference
                unread = os.path.join(folder, "unread.npz")
                if others and not all(part.startswith("export") for part in parts):
                    # Then the model is there, and what `prepare` takes is tracing. An exported
                    # tower is measured without the model beside it.
                    ours.ask(do="weights", path=unread)
                timings.measure(alone, {precision: ours})
                for other, names in beside.items():
                    is_reference = other.name == REFERENCE  # which computes in float32
                    given = [*(arguments if is_reference else own), *other.arguments]
                    if other.is_plain:
                        given.append(f"--gin_bindings=BATCH_SIZE={micro}")
                    with Subject(other.module, given, other.python, other.checkout) as its:
                        path = os.path.join(folder, "weights.npz") if is_reference else unread
                        its.ask(do="weights", path=path)
                        share = micro / batch if other.is_plain else 1.0
                        timings.measure(names, {precision: ours, other.name: its}, share)
            lines = {precision: layer_lines(), **{other.name: other.lines for other in others}}
            _add(results, timings.found, lines, precision, config, flags.price_per_hour)
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


def _turns(
    names: Sequence[str], others: Sequence[Other], has_data: bool
) -> tuple[list[str], dict[Other, list[str]]]:
    """Parts that only the package has, and those of each of the others."""

    def has(other: Other, name: str) -> bool:
        part = name.split("/")[0]
        # Of input the reference reads noise only.
        return part in other.parts and not (
            part == "input" and has_data and other.name == REFERENCE
        )

    alone = [name for name in names if not any(has(other, name) for other in others)]
    return alone, {other: [name for name in names if has(other, name)] for other in others}


class _Rounds:
    """Measures parts of one precision round by round, the package and another variant in turn.

    Attributes:
        found: Timings by part and variant.
    """

    def __init__(self, config, precision, yardsticks, rounds, bar) -> None:
        self.found: dict[tuple[str, str], Timing] = {}
        self._config = config
        self._precision = precision
        self._yardsticks = yardsticks
        self._rounds = rounds
        self._bar = bar

    def measure(
        self, names: Sequence[str], places: Mapping[str, Subject], share: float = 1.0
    ) -> None:
        """Measures parts in the processes of the variants, the package's first.

        Args:
            names: The parts.
            places: Process of each variant.
            share: Of the package's clips that the others have.
        """
        for name in names:
            self._bar.set_postfix_str(f"{name}, {self._precision}")
            own = self._yardsticks if name == "peak" else places
            pairs = [(variant, own[variant]) for variant in places]
            ours, *others = [(self._prepared(name, *pair), pair[1]) for pair in pairs]
            for timing, _ in others:
                timing.flops, timing.clips = timing.flops * share, round(timing.clips * share)
            for _ in range(self._rounds):
                self._round(*ours)
                for timing, place in others:
                    # Short runs beside a long one: their mean has its slow moments, too.
                    self._round(timing, place, min(ours[0].seconds[-1] / 4, 30.0))
                    timing.beside.append(ours[0].seconds[-1])
                    ours[0].beside = ours[0].seconds
                self._bar.update()

    def _prepared(self, name: str, variant: str, place: Subject) -> Timing:
        key = name, variant
        if key not in self.found:
            answer = place.prepare(name)
            timing = Timing(name, variant, [], *_work(self._config, name))
            timing.ready, timing.runs = answer["wall_seconds"], answer.get("runs", 2)
            self.found[key] = timing
        return self.found[key]

    def _round(self, timing: Timing, place: Subject, least_seconds: float = 0.0) -> None:
        answer = place.measure(timing.part, max(least_seconds, LEAST_SECONDS))
        timing.seconds.append(answer["seconds"])
        timing.flops = answer.get("flops", timing.flops)
        timing.peak_bytes = max(timing.peak_bytes, answer["peak_bytes"])
        timing.passing_bytes = max(timing.passing_bytes, answer["passing_bytes"])
        timing.waiting = answer.get("waiting") if timing.part == "run" else None
        # The reference computes in float32.
        precision = "float32" if timing.variant == REFERENCE else self._precision
        if precision in self._yardsticks and timing.flops:
            # The machine's FLOP/s, over the time of the part, at most two seconds.
            seconds = min(answer["seconds"], 2.0)
            peak = self._yardsticks[precision].measure("peak", least_seconds=seconds)
            timing.peaks.append(peak["flops"] / peak["seconds"])


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


def _same_outputs(own: list[str], arguments: list[str], folder: str) -> float:
    """Largest difference of an embedding from the reference's, both with the same weights.

    In processes of their own: those that are measured would keep the memory of it. Leaves the
    weights in the folder.
    """
    weights, ours, its = (
        os.path.join(folder, f"{name}.npz") for name in ("weights", "ours", "its")
    )
    with Subject(WORKER, own) as subject:
        subject.ask(do="weights", path=weights)
        subject.ask(do="embed", path=ours)
    with Subject("tests.reference.plain_worker", arguments) as reference:
        reference.ask(do="weights", path=weights)
        reference.ask(do="embed", path=its)
    found, expected = np.load(ours), np.load(its)
    scale = max(float(np.abs(expected[name]).max()) for name in expected.files)
    return max(float(np.abs(found[n] - expected[n]).max()) for n in expected.files) / scale


def _add(results, by_part, lines, precision, config, price_per_hour) -> None:
    """Adds the rows of one precision, the ratios and the estimate of the whole run."""
    peaks = [peak for (_, name), t in by_part.items() if name == precision for peak in t.peaks]
    if peaks:
        results["peaks"][precision] = statistics.median(peaks)
    for timing in by_part.values():
        results["rows"].append(timing.row())
        if timing.beside:
            ours = by_part[timing.part, precision]
            row = {**timing.compared(ours), "lines": lines[timing.variant]}
            results["ratios"].append(row)
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
