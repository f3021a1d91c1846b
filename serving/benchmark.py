"""``python -m vatt_tf.serving.benchmark``."""

import sys

from vatt_tf.serving.benchmarks.latency import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
