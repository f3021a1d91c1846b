"""A process that measures nothing, for the tests of the protocol."""

import sys
import time

from vatt_tf.benchmarking.protocol import serve
from vatt_tf.errors import UserError


def sleep():
    time.sleep(0.1)
    return {"value": 3}


def refuse():
    raise UserError("this machine has no such thing")


if __name__ == "__main__":
    print("a library that says hello")
    parts = {"sleep": lambda: sleep, "refuse": refuse, "die": lambda: sys.exit(9)}
    sys.exit(serve(parts, {"double": lambda number: {"number": 2 * number}}))
