"""``python -m vatt_tf.serving.client``."""

import sys

from vatt_tf.serving.client.command import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
