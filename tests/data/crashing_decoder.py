"""Run by test_prepare: prepares a folder with a decoder that dies on one of the files."""

import os
import signal
import sys

from vatt_tf import prepare
from vatt_tf.data.prepare import shards
from vatt_tf.data.prepare.plan import Settings

BUILD = shards.build_shard


def build_and_die(shard, settings, out, report):
    """Builds a shard, but the process is killed when it opens c.mov."""

    def deadly(event, file, share):
        report(event, file, share)
        if event == "open" and file.endswith("c.mov"):
            os.kill(os.getpid(), signal.SIGKILL)

    return BUILD(shard, settings, out, deadly)


if __name__ == "__main__":
    shards.build_shard = build_and_die
    settings = Settings(short_side=32, clip_seconds=1.0, num_shards=2)
    prepare.prepare(sys.argv[1], sys.argv[2], settings, jobs=2, tokenizers=())
