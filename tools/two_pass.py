"""Measures gradient caching: time per clip of a large batch, against a step of one micro-batch.

    python tools/two_pass.py [--gin_file=bbs.gin] [--batch_size=64] [--micro_batch_size=2]

Each is its own process (``vatt_tf.benchmarking``). Plain steps are timed before and after every
step with gradient caching, because the speed of a machine varies over the minutes of such a step.
Their mean is reported: a median of short steps would leave out slow moments, which the long step
includes. Prints the ratios of times and memory. Needs a quiet machine.
"""

from __future__ import annotations

import statistics

from vatt_tf import cli
from vatt_tf.benchmarking.protocol import Subject

WORKER = "vatt_tf.benchmarking.worker"


def subject(gin_file: str, batch_size: int, micro_batch_size: int) -> Subject:
    """Starts a process that measures steps of a batch."""
    bindings = (f"BATCH_SIZE={batch_size}", f"MICRO_BATCH_SIZE={micro_batch_size}")
    flags = [f"--gin_file={gin_file}", *(f"--gin_bindings={one}" for one in bindings)]
    return Subject(WORKER, [*flags, "--precision=float32"])


def main() -> None:
    """Entry point."""
    parser = cli.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gin_file", default="bbs.gin", help="run file of the model")
    parser.add_argument(
        "--batch_size", type=int, default=64, help="clips of a step with gradient caching"
    )
    parser.add_argument("--micro_batch_size", type=int, default=2, help="clips at a time")
    parser.add_argument("--rounds", type=int, default=1, help="steps with gradient caching")
    parser.add_argument("--beside", type=int, default=10, help="plain steps before and after each")
    flags = parser.parse_args()
    micro, batch = flags.micro_batch_size, flags.batch_size

    ratios: list[float] = []
    with (
        subject(flags.gin_file, micro, micro) as plain,
        subject(flags.gin_file, batch, micro) as two_pass,
    ):
        for one in (plain, two_pass):
            one.prepare("step")
        beside = [plain.measure("step") for _ in range(flags.beside)]
        for _ in range(flags.rounds):
            large = two_pass.measure("step")
            after = [plain.measure("step") for _ in range(flags.beside)]
            clip = statistics.mean(one["seconds"] for one in beside + after) / micro
            ratios.append(large["seconds"] / batch / clip)
            print(
                f"{batch} clips {large['seconds']:.1f} s; {micro} clips "
                + ", ".join(f"{one['seconds']:.2f}" for one in beside + after)
                + f" s; time of a clip {ratios[-1]:.3f} times",
                flush=True,
            )
            beside = after
    print(f"time of a clip, median: {statistics.median(ratios):.3f} times")
    share = large["peak_bytes"] / after[-1]["peak_bytes"]
    print(
        f"peak memory {large['peak_bytes'] / 1e9:.2f} and {after[-1]['peak_bytes'] / 1e9:.2f} GB: "
        f"{share:.3f} times"
    )


if __name__ == "__main__":
    main()
