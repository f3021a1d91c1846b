"""``python -m vatt_tf.data.service_benchmark``."""

import sys

from vatt_tf.data.service.benchmark import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
