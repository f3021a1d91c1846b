"""Counters and histograms under the names and labels of a TensorFlow model server.

The names begin with a colon and counters do not end in ``_total``; that is legal, but no Prometheus
client library writes it, and dashboards made for a model server look for exactly these.
"""

from __future__ import annotations

import bisect
import threading
from collections.abc import Sequence

# 10 us to 20 minutes.
_LATENCY_BUCKETS = [10 * 1.8**power for power in range(33)]
_COUNT_BUCKETS = [2.0**power for power in range(15)]


def _labels(names: Sequence[str], values: Sequence[str]) -> str:
    escaped = (
        value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for value in values
    )
    return ",".join(f'{name}="{value}"' for name, value in zip(names, escaped, strict=True))


class Counter:
    """A count per combination of label values."""

    def __init__(self, name: str, labels: Sequence[str]) -> None:
        self.name = name
        self._labels = labels
        self._values: dict[tuple[str, ...], int] = {}
        self._lock = threading.Lock()

    def add(self, *labels: str, by: int = 1) -> None:
        """Adds to the count of these label values."""
        with self._lock:
            self._values[labels] = self._values.get(labels, 0) + by

    def value(self, *labels: str) -> int:
        """The count of these label values."""
        with self._lock:
            return self._values.get(labels, 0)

    def lines(self) -> list[str]:
        """The metric in the text format of Prometheus."""
        with self._lock:
            values = sorted(self._values.items())
        return [f"# TYPE {self.name} counter"] + [
            f"{self.name}{{{_labels(self._labels, key)}}} {count}" for key, count in values
        ]


class Histogram:
    """A distribution per combination of label values."""

    def __init__(
        self, name: str, labels: Sequence[str], buckets: Sequence[float] = tuple(_LATENCY_BUCKETS)
    ) -> None:
        self.name = name
        self._labels = labels
        self._buckets = list(buckets)
        self._values: dict[tuple[str, ...], tuple[list[int], list[float]]] = {}
        self._lock = threading.Lock()

    def observe(self, value: float, *labels: str) -> None:
        """Adds a value to the distribution of these label values."""
        index = bisect.bisect_left(self._buckets, value)
        with self._lock:
            entry = self._values.get(labels)
            if entry is None:
                entry = self._values[labels] = ([0] * (len(self._buckets) + 1), [0.0])
            counts, total = entry
            counts[index] += 1
            total[0] += value

    def lines(self) -> list[str]:
        """The metric in the text format of Prometheus."""
        with self._lock:
            values = sorted(
                (key, list(counts), sum(total)) for key, (counts, total) in self._values.items()
            )
        lines = [f"# TYPE {self.name} histogram"]
        for key, counts, total in values:
            labels, seen = _labels(self._labels, key), 0
            for limit, count in zip([*self._buckets, float("inf")], counts, strict=True):
                seen += count
                name = "+Inf" if limit == float("inf") else f"{limit:g}"
                lines.append(f'{self.name}_bucket{{{labels},le="{name}"}} {seen}')
            lines.append(f"{self.name}_sum{{{labels}}} {total:g}")
            lines.append(f"{self.name}_count{{{labels}}} {seen}")
        return lines


class Metrics:
    """The metrics of one server.

    Attributes:
        request_count: Requests by model and status.
        request_latency: Microseconds from request to reply.
        runtime_latency: Microseconds inside the model.
        example_counts: Examples of a Classify, Regress or MultiInference request.
        example_count_total: Their sum.
        warmup_latency: Microseconds of the warm-up of a version.
        load_attempts: Attempts to load a version.
        load_latency: Microseconds of a load.
        queuing_latency: Microseconds that a task waited for its batch.
        batch_size: Rows of the batches that were run, padding not counted.
        padding_size: Rows of padding added to a batch.
    """

    def __init__(self) -> None:
        self.request_count = Counter(":tensorflow:serving:request_count", ("model_name", "status"))
        self.request_latency = Histogram(
            ":tensorflow:serving:request_latency", ("model_name", "API", "entrypoint")
        )
        self.runtime_latency = Histogram(
            ":tensorflow:serving:runtime_latency", ("model_name", "API", "runtime")
        )
        self.example_counts = Histogram(
            ":tensorflow:serving:request_example_counts", ("model",), _COUNT_BUCKETS
        )
        self.example_count_total = Counter(
            ":tensorflow:serving:request_example_count_total", ("model",)
        )
        self.warmup_latency = Histogram(
            ":tensorflow:serving:model_warmup_latency", ("model_path", "status")
        )
        self.load_attempts = Counter(
            ":tensorflow:cc:saved_model:load_attempt_count", ("model_path", "status")
        )
        self.load_latency = Counter(":tensorflow:cc:saved_model:load_latency", ("model_path",))
        self.queuing_latency = Histogram(
            ":tensorflow:serving:batching_session:queuing_latency", ("thread_pool_name",)
        )
        self.batch_size = Histogram(
            ":tensorflow:serving:batching_session:processed_batch_size",
            ("model_name",),
            _COUNT_BUCKETS,
        )
        self.padding_size = Histogram(
            ":tensorflow:serving:batching_session:padding_size", ("model_name",), _COUNT_BUCKETS
        )

    def render(self) -> str:
        """All metrics in the text format of Prometheus."""
        families = (value for value in vars(self).values())
        return "\n".join(line for family in families for line in family.lines()) + "\n"
