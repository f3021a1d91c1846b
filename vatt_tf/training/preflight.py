"""Checks before the first step of a run: whole patches, enough memory."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from vatt_tf.encoders.video import VideoTowerConfig
from vatt_tf.errors import UserError
from vatt_tf.training import estimate
from vatt_tf.training.tasks.config import RunConfig

_CGROUP = pathlib.Path("/sys/fs/cgroup")


def check_patches(config: RunConfig) -> None:
    """Checks that patches cover all frames and pixels.

    The configuration of a tower allows them, since trained weights may have them; a new run would
    read them from disk and drop them silently.

    Raises:
        UserError: If a clip is no whole number of patches.
    """
    for tower in config.model_config.towers.values():
        if not isinstance(tower, VideoTowerConfig):
            continue
        _check_multiple(f"{tower.name}.frames", (tower.frames,), tower.patch[:1])
        _check_multiple(f"{tower.name}.image_size", tower.image_size, tower.patch[1:])


def _check_multiple(name: str, sizes: tuple[int, ...], patch: tuple[int, ...]) -> None:
    below = tuple(size - size % part for size, part in zip(sizes, patch, strict=True))
    if below == tuple(sizes):
        return
    above = tuple(size + -size % part for size, part in zip(sizes, patch, strict=True))
    value, part, low, high = (v[0] if len(v) == 1 else v for v in (sizes, patch, below, above))
    raise UserError(
        f"{name} = {value}: patches of {part} (..._tower.patch) leave a rest that nothing reads; "
        f"expected a multiple, e.g. {low} or {high}"
    )


def check_memory(
    config: RunConfig, parameters: Mapping[str, int], replicas: int, free: float | None
) -> None:
    """Checks that the estimated memory of a step is free.

    Args:
        config: The run.
        parameters: See :func:`vatt_tf.models.vatt.parameter_counts`.
        replicas: Replicas of the run, of which one is on this processor.
        free: Bytes that are free; None where that is not known.

    Raises:
        UserError: If there is not enough memory; names the micro-batch that fits.
    """
    if free is None:
        return
    needed = estimate.memory_bytes(config, dict(parameters), replicas)["total"]
    if needed <= free:
        return
    batch, micro = config.sizes(replicas)
    fitting = _fitting_micro_batch(config, parameters, replicas, micro, free)
    if fitting is None:
        advice = (
            "also with MICRO_BATCH_SIZE=1: choose a smaller BATCH_SIZE or model, or set "
            f"{config.name}.remat=True"
        )
    else:
        advice = f"add --gin_bindings=MICRO_BATCH_SIZE={fitting} (the gradients are the same)"
    raise UserError(
        f"a step of {batch} clips, {micro} at a time, takes about {needed / 1e9:.1f} GB of memory, "
        f"{free / 1e9:.1f} GB are free; {advice}"
    )


def _fitting_micro_batch(
    config: RunConfig, parameters: Mapping[str, int], replicas: int, micro: int, free: float
) -> int | None:
    """The largest smaller micro-batch whose step fits, or None."""
    for size in range(micro - 1, 0, -1):
        if micro % size:
            continue
        try:
            smaller: Any = dataclasses.replace(config, micro_batch_size=size)
            needed = estimate.memory_bytes(smaller, dict(parameters), replicas)["total"]
        except UserError:  # BatchNorm of convolutional towers over several replicas
            return None
        if needed <= free:
            return size
    return None


def free_memory() -> float | None:
    """Bytes that this process can still take on the processor; None where that is not known.

    None, too, where the step runs on an accelerator, whose memory is another.
    """
    if tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("TPU"):
        return None
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
        free = float(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
    return min(free, _free_in_container())


def _free_in_container() -> float:
    """Bytes up to the limit of the control group (version 2); infinite without a limit."""
    try:
        limit = float((_CGROUP / "memory.max").read_text())
        used = float((_CGROUP / "memory.current").read_text())
        lines = (_CGROUP / "memory.stat").read_text().splitlines()
        cache = float(dict(line.split() for line in lines)["inactive_file"])
    except (OSError, KeyError, ValueError):  # "max": no limit
        return float("inf")
    return limit - used + cache
