"""Table of the cost of a pre-training step on 1 to 256 replicas: network, memory, clips/s.

    python tools/scaling_table.py --gin_file=bbs.gin --step_seconds=0.5 --gbit=100

Only the step time of one device (with the clips of one replica) is measured; everything else is
computed from the model. The time of the network is added to that of the step, without overlap.
"""

from __future__ import annotations

import dataclasses
import math
import sys

from vatt_tf import cli
from vatt_tf.wording import count_of, percent

REPLICAS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
FLOAT = 4


@dataclasses.dataclass(frozen=True)
class Payload:
    """Bytes that replicas exchange in a step.

    Attributes:
        gradients: Bytes of all gradients.
        embeddings: Bytes of one clip's embeddings and masks.
        statistics: Bytes of BatchNorm's means and variances.
    """

    gradients: int
    embeddings: int
    statistics: int

    def bytes_per_replica(self, replicas: int, batch: int) -> float:
        """Bytes that a replica sends (and receives) in a step of ``batch`` clips.

        A ring needs ``(N - 1) / N`` of the data for a gather and twice that for a sum. Embeddings
        are gathered, and their gradients summed; statistics are summed in both directions.
        """
        share = (replicas - 1) / replicas
        sums = self.gradients + batch * self.embeddings + 2 * self.statistics
        return share * (2 * sums + batch * self.embeddings)


def main() -> int:
    """Prints the table."""
    flags = cli.ArgumentParser(prog="python tools/scaling_table.py", description=__doc__)
    cli.add_gin_flags(flags)
    flags.add_argument("--clips", type=cli.positive, default=8, help="clips a replica and step")
    flags.add_argument(
        "--step_seconds", type=cli.above_zero, help="measured step of one device; none: no clips/s"
    )
    flags.add_argument(
        "--gbit", type=cli.above_zero, default=100.0, help="network of a replica in Gbit/s"
    )
    arguments = flags.parse_args()
    return cli.run(lambda: _print(arguments))


def _print(flags) -> int:
    cli.before_tensorflow()
    from vatt_tf import config
    from vatt_tf.models.vatt import abstract, build_vatt, parameter_counts
    from vatt_tf.training.estimate import memory_bytes
    from vatt_tf.training.tasks.config import TrainConfig

    config.import_configurables()
    config.parse(flags.gin_file, flags.gin_bindings)
    run = TrainConfig()
    model = abstract(lambda: build_vatt(run.model))
    parameters = parameter_counts(model)
    statistics = [v for v in model.non_trainable_variables if "moving_" in v.path]
    payload = Payload(
        gradients=FLOAT * parameters["trainable"],
        embeddings=FLOAT * _embedding_values(run),
        statistics=FLOAT * sum(math.prod(v.shape) for v in statistics),
    )
    clip = run.clip
    pixels, ids = clip.frames * clip.height * clip.width * 3, clip.texts * clip.tokens
    one_clip = pixels + FLOAT * (clip.samples + ids)
    print(
        f"{flags.gin_file[-1]}: {one_clip / 1e6:.2f} MB a clip, "
        f"{count_of(flags.clips, 'clip')} a replica\n"
    )
    columns = ["replicas", "batch", "memory of a replica, GB", "network of a replica, MB a step"]
    measured = flags.step_seconds is not None
    columns += ["step, s", "clips/s", "of linear"] if measured else []
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for replicas in REPLICAS:
        batch = replicas * flags.clips
        sized = dataclasses.replace(run, batch_size=batch)
        memory = memory_bytes(sized, parameters, replicas)["total"]
        sent = payload.bytes_per_replica(replicas, batch)
        cells = [f"{replicas}", f"{batch:,}", f"{memory / 1e9:.1f}", f"{sent / 1e6:,.0f}"]
        if measured:
            seconds = flags.step_seconds + 8 * sent / (flags.gbit * 1e9)
            share = flags.step_seconds / seconds
            cells += [f"{seconds:.3f}", f"{batch / seconds:,.1f}", percent(share, 0)]
        print("| " + " | ".join(cells) + " |")
    return 0


def _embedding_values(run) -> int:
    """Number of gathered values of a clip: embeddings in each space, and masks."""
    head, texts = run.model.head, run.clip.texts
    if head.vat_dim:
        embeddings = head.vat_dim * (2 + texts)
    else:
        embeddings = 2 * head.va_dim + head.vt_dim * (1 + texts)
    return embeddings + 2 + texts


if __name__ == "__main__":
    sys.exit(main())
