"""Load test: full load while versions are added and removed; no call may fail, no memory grow."""

from __future__ import annotations

import asyncio
import pathlib
import shutil
import tempfile
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from vatt_tf.atomic import new_file, new_folder, write_json
from vatt_tf.serving.benchmarks import tools

# Versions that stay on disk; the server serves the newest.
_KEPT_VERSIONS = 2
# Fraction of the run that counts as warm-up, until the allocators have their size.
_WARM_UP = 0.2


def run(
    models: str,
    out: pathlib.Path,
    *,
    minutes: float,
    clients: int,
    version_seconds: float,
    clips: Sequence[tuple[int, int, int]] = (),
) -> dict[str, Any]:
    """Runs the load test.

    Args:
        models: Export folder with a text model.
        out: Folder for load.json and load.png.
        minutes: Length.
        clients: Clients that call without a pause.
        version_seconds: Seconds between two new versions of the text model.
        clips: Sizes of clips (frames, height, width) that go to the video model as well.

    Returns:
        The figures: calls, failures, latencies, versions, memory growth after warm-up.

    Raises:
        UserError: If there is no text model, or the server does not start.
    """
    source = tools.version_folder(models, "text")
    asked = [tools.predict_request("text", "text", tools.texts(1))]
    for size in clips:
        clip = np.random.default_rng(0).integers(0, 256, (1, *size, 3), np.uint8)
        asked.append(tools.predict_request("video", "frames", clip))
    messages = [one.SerializeToString() for one in asked]
    calls = tools.Calls()
    samples: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="vatt-load-") as folder:
        versions = _Versions(source, pathlib.Path(folder) / "text")
        versions.add()
        if clips:
            video = tools.version_folder(models, "video")
            (pathlib.Path(folder) / "video").mkdir()
            (pathlib.Path(folder) / "video" / "1").symlink_to(video)
        with tools.ServerProcess(folder, "--enable_batching", "--grpc_max_threads=128") as server:
            started = time.perf_counter()
            end = started + minutes * 60
            stop = threading.Event()
            threads = [
                threading.Thread(target=_sample, args=(server, calls, samples, started, stop)),
                threading.Thread(target=versions.turn_over, args=(version_seconds, stop)),
            ]
            for thread in threads:
                thread.start()
            try:
                asyncio.run(
                    tools.call_for(
                        server.address,
                        messages,
                        clients,
                        lambda: time.perf_counter() < end,
                        calls,
                        deadlines=(60.0, None),
                    )
                )
            finally:
                stop.set()
                for thread in threads:
                    thread.join()
    wall = time.perf_counter() - started
    figures = {
        "minutes": minutes,
        "clients": clients,
        "versions": versions.newest,
        **calls.summary(wall),
        "failure_messages": sorted(set(calls.failures))[:10],
        **_memory(samples),
        "curve": samples,
    }
    write_json(out / "load.json", figures)
    _plot(out / "load.png", samples)
    return figures


class _Versions:
    """Adds and removes versions of a model under a running server."""

    def __init__(self, source: pathlib.Path, base: pathlib.Path) -> None:
        self._source = source
        self._base = base
        self.newest = 0

    def add(self) -> None:
        """Adds a version under a temporary name, then renames it; removes the oldest."""
        number = self.newest + 1
        with new_folder(self._base / str(number)) as temporary:
            shutil.copytree(self._source, temporary, dirs_exist_ok=True)
        self.newest = number
        old = self._base / str(number - _KEPT_VERSIONS)
        if old.exists():
            shutil.rmtree(old)

    def turn_over(self, seconds: float, stop: threading.Event) -> None:
        while not stop.wait(seconds):
            self.add()


def _sample(
    server: tools.ServerProcess,
    calls: tools.Calls,
    samples: list[dict[str, float]],
    started: float,
    stop: threading.Event,
) -> None:
    """Samples every second: memory, and the latencies of the calls since the last sample."""
    seen = 0
    while not stop.wait(1.0):
        recent = calls.seconds[seen:]
        seen += len(recent)
        samples.append(
            {
                "seconds": round(time.perf_counter() - started, 1),
                "rss_mb": round(server.rss_mb(), 1),
                "calls": len(recent),
                "p50_ms": round(tools.percentile(recent, 50) * 1e3, 2) if recent else 0.0,
                "p99_ms": round(tools.percentile(recent, 99) * 1e3, 2) if recent else 0.0,
            }
        )


def _memory(samples: list[dict[str, float]]) -> dict[str, float]:
    """Memory growth from the first tenth after warm-up to the last tenth, by medians."""
    rss = [sample["rss_mb"] for sample in samples]
    tenth = max(1, len(rss) // 10)
    begin = int(len(rss) * _WARM_UP)
    if len(rss) < begin + tenth or not rss:
        return {}
    before, after = np.median(rss[begin : begin + tenth]), np.median(rss[-tenth:])
    return {
        "rss_after_warm_up_mb": round(float(before), 1),
        "rss_at_end_mb": round(float(after), 1),
        "rss_peak_mb": max(rss),
        "memory_growth": round(float(after / before - 1), 4),
    }


def _plot(path: pathlib.Path, samples: list[dict[str, float]]) -> None:
    """Plots memory and latency over time."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    seconds = [sample["seconds"] for sample in samples]
    figure, (memory, latency) = pyplot.subplots(2, 1, sharex=True, figsize=(9, 6))
    memory.plot(seconds, [sample["rss_mb"] for sample in samples], color="#1f6f8b")
    memory.set_ylabel("server memory (MB)")
    memory.set_ylim(bottom=0)
    for name, color in (("p50_ms", "#1f6f8b"), ("p99_ms", "#c8553d")):
        latency.plot(seconds, [sample[name] for sample in samples], color=color, label=name[:3])
    latency.set_ylabel("latency (ms)")
    latency.set_ylim(bottom=0)
    latency.set_xlabel("time (s)")
    latency.legend(frameon=False)
    for axes in (memory, latency):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
    figure.suptitle("Full load while versions come and go")
    figure.tight_layout()
    with new_file(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
    pyplot.close(figure)
