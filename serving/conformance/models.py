"""Writes the small models of the conformance suite and the configurations to start a server with.

Usage::

    python -m vatt_tf.serving.conformance.models OUT [--at=/models]

OUT then holds ``<model>/<version>/`` folders and three files for the server's command line:
``models.config``, ``batching.config`` and ``monitoring.config``. With ``--at`` the paths in
``models.config`` are those of the machine or container that the server runs on.
"""

from __future__ import annotations

import pathlib
import shutil
import sys

from vatt_tf import cli
from vatt_tf.atomic import new_folder
from vatt_tf.errors import UserError

# Rows of the largest batch in ``batching.config``.
MAX_BATCH_SIZE = 4
METRICS_PATH = "/monitoring/prometheus/metrics"

# Versions on disk, and the policy in models.config ("" is the default: the newest one).
VERSIONS = {
    "half": (["1", "2"], "specific { versions: 1 versions: 2 }"),
    "latest": (["1", "2"], ""),
    "newest_two": (["1", "2", "3"], "latest { num_versions: 2 }"),
    "every": (["1", "2"], "all {}"),
    "names": (["0010", "abc", "tmp_11"], ""),
    "hot": (["1"], ""),
    "words": (["1"], ""),
    "examples": (["1"], ""),
}
# Every served version before the suite changes anything.
SERVED = {
    "half": [2, 1],
    "latest": [2],
    "newest_two": [3, 2],
    "every": [2, 1],
    "names": [10],
    "hot": [1],
    "words": [1],
    "examples": [1],
}

BATCHING = f"""\
max_batch_size {{ value: {MAX_BATCH_SIZE} }}
batch_timeout_micros {{ value: 20000 }}
max_enqueued_batches {{ value: 100 }}
num_batch_threads {{ value: 1 }}
allowed_batch_sizes: 2
allowed_batch_sizes: {MAX_BATCH_SIZE}
"""
MONITORING = f"""\
prometheus_config {{
  enable: true
  path: "{METRICS_PATH}"
}}
"""


def models_config(at: str) -> str:
    """Text of ``models.config`` for models in the folder ``at`` of the server's machine."""
    blocks = []
    for name, (_, policy) in VERSIONS.items():
        lines = [f'name: "{name}"', f'base_path: "{at}/{name}"', 'model_platform: "tensorflow"']
        if policy:
            lines.append(f"model_version_policy {{ {policy} }}")
        blocks.append("  config {\n" + "".join(f"    {line}\n" for line in lines) + "  }\n")
    return "model_config_list {\n" + "".join(blocks) + "}\n"


def write_half(folder: pathlib.Path, bias: float) -> None:
    """Writes ``half``: y = x / 2 + bias, and one signature for every shape of question.

    Signatures: ``serving_default`` {x} -> {y}; ``both`` {x} -> {y, twice}; ``add`` {a, b} -> {y};
    ``scalar`` {x: []} -> {y: []}; ``rows`` {x} -> {y: rows that the graph sees, for each row};
    ``missing_file`` fails in an operation with the code NOT_FOUND.
    """
    import tensorflow as tf

    vector = tf.TensorSpec([None], tf.float32)

    class Half(tf.Module):
        def __init__(self):
            super().__init__()
            # A variable: without it there is no variables folder that a case could damage.
            self.bias = tf.Variable(bias)

        @tf.function
        def half(self, x):
            return {"y": x / 2.0 + self.bias}

        @tf.function
        def both(self, x):
            y = x / 2.0 + self.bias
            return {"y": y, "twice": 2.0 * y}

        @tf.function
        def add(self, a, b):
            return {"y": a + b}

        @tf.function
        def scalar(self, x):
            # A sum, so that the output has no batch axis either, whatever is fed.
            return {"y": tf.reduce_sum(x) / 2.0 + self.bias}

        @tf.function
        def rows(self, x):
            size = tf.shape(x)
            return {"y": tf.fill(size, tf.cast(size[0], tf.float32))}

        @tf.function
        def missing_file(self, x):
            name = tf.strings.join(["/no/such/folder/", tf.strings.as_string(tf.shape(x)[0])])
            return {"y": tf.fill(tf.shape(x), tf.io.read_file(name))}

    module = Half()
    one = ("both", "rows", "missing_file")
    tf.saved_model.save(
        module,
        str(folder),
        signatures={
            "serving_default": module.half.get_concrete_function(x=vector),
            **{name: getattr(module, name).get_concrete_function(x=vector) for name in one},
            "add": module.add.get_concrete_function(a=vector, b=vector),
            "scalar": module.scalar.get_concrete_function(x=tf.TensorSpec([], tf.float32)),
        },
    )


def write_words(folder: pathlib.Path) -> None:
    """Writes ``words``: {text} -> {text_bytes: the same, length: bytes}; ``number``: {text} -> {y}.

    ``number`` reads the strings as numbers and fails with INVALID_ARGUMENT where there are none.
    """
    import tensorflow as tf

    strings = tf.TensorSpec([None], tf.string)

    class Words(tf.Module):
        @tf.function
        def echo(self, text):
            return {"text_bytes": tf.identity(text), "length": tf.strings.length(text)}

        @tf.function
        def number(self, text):
            return {"y": tf.strings.to_number(text)}

    module = Words()
    tf.saved_model.save(
        module,
        str(folder),
        signatures={
            "serving_default": module.echo.get_concrete_function(text=strings),
            "number": module.number.get_concrete_function(text=strings),
        },
    )


def write_examples(folder: pathlib.Path) -> None:
    """Writes ``examples``: signatures ``classify`` and ``regress`` that read tf.Example protos.

    Feature ``x``, a float; regress gives x / 2 + 2, classify the classes "low", "high" with the
    scores -x, x. Both read the same placeholder, as MultiInference asks for.
    """
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        serialized = v1.placeholder(tf.string, [None], name="examples")
        parsed = tf.io.parse_example(serialized, {"x": tf.io.FixedLenFeature([1], tf.float32)})
        outputs = parsed["x"] / 2.0 + 2.0
        scores = tf.concat([-parsed["x"], parsed["x"]], axis=1)
        classes = tf.tile(tf.constant([["low", "high"]]), [tf.shape(serialized)[0], 1])
        build = v1.saved_model.signature_def_utils
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(
            session,
            [tf.saved_model.SERVING],
            signature_def_map={
                "serving_default": build.regression_signature_def(serialized, outputs),
                "regress": build.regression_signature_def(serialized, outputs),
                "classify": build.classification_signature_def(serialized, classes, scores),
            },
        )
        builder.save()


def write_models(out: str | pathlib.Path, at: str | None = None) -> pathlib.Path:
    """Writes all models and configurations.

    Args:
        out: Folder to be made.
        at: The same folder as the server sees it; an absolute path. ``out`` by default.

    Returns:
        The absolute path of the folder.

    Raises:
        UserError: If ``out`` exists or ``at`` is relative.
    """
    folder = pathlib.Path(out).absolute()
    at = str(folder) if at is None else at.rstrip("/")
    if not at.startswith("/"):
        raise UserError(f"--at={at}: a server takes absolute paths only, e.g. /models")
    if folder.exists():
        raise UserError(f"{folder} exists already; name a new folder")
    with new_folder(folder) as unfinished:
        write_half(unfinished / "half" / "1", bias=2.0)
        write_half(unfinished / "half" / "2", bias=3.0)
        write_words(unfinished / "words" / "1")
        write_examples(unfinished / "examples" / "1")
        for name, (versions, _) in VERSIONS.items():
            for version in versions:
                target = unfinished / name / version
                if not target.exists():
                    shutil.copytree(unfinished / "half" / "1", target)
        (unfinished / "models.config").write_text(models_config(at), encoding="utf-8")
        (unfinished / "batching.config").write_text(BATCHING, encoding="utf-8")
        (unfinished / "monitoring.config").write_text(MONITORING, encoding="utf-8")
    return folder


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = cli.ArgumentParser(
        prog="python -m vatt_tf.serving.conformance.models",
        description=__doc__,
    )
    parser.add_argument("out", type=cli.path, metavar="OUT", help="folder to be made")
    parser.add_argument(
        "--at", type=cli.path, help="absolute path of OUT on the server's machine (default: OUT)"
    )
    args = parser.parse_args(argv)
    cli.before_tensorflow()

    def command() -> int:
        folder = write_models(args.out, args.at)
        print(f"wrote {len(VERSIONS)} models and their configurations into {folder}")
        return 0

    return cli.run(command)


if __name__ == "__main__":
    sys.exit(main())
