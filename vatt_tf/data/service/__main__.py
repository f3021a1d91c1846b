"""``python -m vatt_tf.data.service``."""

import sys

from vatt_tf.data.service.server import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
