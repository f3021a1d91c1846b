"""Peak memory of this process, and of the tensors in it, between two moments."""

from __future__ import annotations

import functools
import pathlib
import resource
import sys

_STATUS = pathlib.Path("/proc/self/status")
# Writing 5 there resets the peak (proc_pid_clear_refs of Linux).
_CLEAR = pathlib.Path("/proc/self/clear_refs")


def reset_peak() -> None:
    """Resets the peaks of the host and of the device."""
    if "tensorflow" in sys.modules and _are_counted():
        import tensorflow as tf

        tf.config.experimental.reset_memory_stats(_gpu() or "CPU:0")
    if _gpu() is None and _CLEAR.exists():
        _CLEAR.write_text("5", encoding="ascii")


def peak_bytes() -> int:
    """Peak since :func:`reset_peak`: of the GPU's memory, or of the process on a CPU.

    Where the system cannot reset a process's peak (other than Linux), it is that of its whole life.
    """
    if _gpu() is not None:
        return tensor_bytes()["peak"]
    return process_peak()


def process_peak() -> int:
    """Peak of the process, not of the one that has started it, as ``ru_maxrss`` may be."""
    return _from_status("VmHWM:") or 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def tensor_bytes() -> dict[str, int]:
    """Bytes of tensors on the GPU, else on the CPU: ``current``, and ``peak`` since the reset.

    On a CPU that is less than the process holds: there are the program, too, and holes between
    tensors. Where TensorFlow does not count them it is what the process holds. Zeros where
    TensorFlow has not been imported.
    """
    if "tensorflow" not in sys.modules:
        return {"current": 0, "peak": 0}
    import tensorflow as tf

    if not _are_counted():
        return {"current": _from_status("VmRSS:") or 0, "peak": peak_bytes()}
    return tf.config.experimental.get_memory_info(_gpu() or "CPU:0")


@functools.cache
def _are_counted() -> bool:
    """Whether TensorFlow counts the bytes of tensors: on a CPU, only where oneDNN is on."""
    import tensorflow as tf

    try:
        tf.config.experimental.get_memory_info(_gpu() or "CPU:0")
    except ValueError:  # "Allocator stats not available"
        return False
    return True


def machine_bytes() -> int | None:
    """Memory of the machine, or of the GPU where TensorFlow reports it; None if unknown."""
    meminfo = pathlib.Path("/proc/meminfo")
    if _gpu() is not None or not meminfo.exists():
        return None
    return 1024 * int(meminfo.read_text(encoding="ascii").split("MemTotal:")[1].split()[0])


def _from_status(name: str) -> int | None:
    if _STATUS.exists():
        for line in _STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith(name):
                return 1024 * int(line.split()[1])
    return None


def _gpu() -> str | None:
    if "tensorflow" not in sys.modules:  # then nothing of this process is on a GPU
        return None
    import tensorflow as tf

    return "GPU:0" if tf.config.list_physical_devices("GPU") else None
