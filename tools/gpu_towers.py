"""Measures video towers on an accelerator, Keras on JAX: forward pass and training step.

    KERAS_BACKEND=jax PYTHONPATH=. python tools/gpu_towers.py --out=gpu_towers.json

Needs this checkout, JAX, Keras and NumPy, and no TensorFlow. A training step is forward and
backward pass with DropToken and dropout, and Adam. It is measured with all activations kept, with
the regions of a block computed again (what `vatt_tf.train` does), with whole blocks computed again
(`train.remat`), and with flash attention, which has no dropout of the weights and, in JAX, is for
bfloat16 on a GPU. FLOPs are the needed ones, whatever is computed twice; MFU is their share of what
products of large matrices reach in the same dtype. Memory is what the compiled program asks for:
arguments, results and temporary tensors.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import pathlib
import statistics
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import jax
import keras
from keras import ops

from vatt_tf.layers.dropout import Dropout, DropToken
from vatt_tf.layers.transformer import blocks
from vatt_tf.layers.transformer.agg_token import AggToken
from vatt_tf.layers.transformer.attention import SelfAttention
from vatt_tf.layers.transformer.flops import transformer_flops
from vatt_tf.layers.transformer.patch_embedding import PatchEmbedding
from vatt_tf.layers.transformer.positions import FactorisedPositions

PATCH = (4, 16, 16)
AXES = ("temporal", "vertical", "horizontal")
# The paper's table 7, and one for tests.
SIZES = {
    "tiny": SimpleNamespace(num_layers=2, d_model=32, num_heads=2, d_ff=64, d_kv=16),
    "base": SimpleNamespace(num_layers=12, d_model=768, num_heads=12, d_ff=3072, d_kv=64),
    "large": SimpleNamespace(num_layers=24, d_model=1024, num_heads=16, d_ff=4096, d_kv=64),
}
TRAINED = ("kept", "regions", "blocks", "flash")
TITLES = ("tower", "dtype", "part", "variant", "ms", "clips/s", "TFLOP/s", "MFU %", "GB")


class FlashAttention(SelfAttention):
    """Keras's scaled dot-product attention in place of softmax and dropout of the weights."""

    def mix(
        self, projected: Any, bias: Any = None, kept: Any = None, agg_only: bool = False
    ) -> Any:
        """Mixes the values of all tokens by their weights."""
        del kept
        shape = (*projected.shape[:2], 3, self.num_heads, self.d_kv)
        query, key, value = ops.unstack(ops.reshape(projected, shape), 3, axis=2)
        query = query[:, :1] if agg_only else query
        mixed = ops.dot_product_attention(query, key, value, bias, flash_attention=True)
        return ops.reshape(mixed, (*mixed.shape[:2], -1))


class VideoTower(keras.Model):
    """The video tower of ``vatt_tf.encoders``, whose configuration needs more packages."""

    def __init__(self, size: SimpleNamespace, shape: tuple[int, ...], dtype: str) -> None:
        super().__init__(dtype=dtype)
        policy = self.dtype_policy
        grid = [length // patch for length, patch in zip(shape[1:-1], PATCH, strict=True)]
        self.patches = PatchEmbedding(PATCH, size.d_model, dtype=policy)
        self.positions = FactorisedPositions(AXES, grid, size.d_model, dtype=policy)
        self.dropout = Dropout(0.1, dtype=policy)
        self.drop_token = DropToken(math.prod(grid), 0.5, dtype=policy)
        self.agg = AggToken(dtype=policy)
        sizes = {name: value for name, value in vars(size).items() if name != "d_model"}
        self.transformer = blocks.Transformer(**sizes, dropout_rate=0.1, dtype=policy)

    def build(self, shape: tuple[int, ...]) -> None:
        """Makes the variables."""
        self.patches.build(shape)
        for part in (self.positions, self.dropout, self.drop_token, self.agg, self.transformer):
            part.build((shape[0], self.drop_token.tokens, self.patches.d_model))

    def call(self, frames: Any, training: bool = False) -> Any:
        """uint8 [B, T, H, W, 3] -> pooled features [B, d]."""
        indices = self.drop_token.indices(self.drop_token.tokens, training)
        tokens = self.positions(self.patches(frames, indices=indices), indices=indices)
        tokens = self.agg(self.dropout(tokens, training=training))
        return self.transformer(tokens, training=training, agg_only=True)[:, 0]


@contextlib.contextmanager
def varied(variant: str) -> Iterator[None]:
    """While it lasts, blocks are made and traced in a variant."""
    recompute, attention = blocks.recompute, blocks.SelfAttention
    try:
        if variant == "kept":
            blocks.recompute = lambda function, *inputs, training: function(*inputs)
        if variant == "flash":
            blocks.SelfAttention = FlashAttention
        yield
    finally:
        blocks.recompute, blocks.SelfAttention = recompute, attention


def program_of(tower: VideoTower, part: str) -> tuple[Callable[..., Any], list[Any]]:
    """The function of a part, and what it is given besides frames: in training, its results."""
    optimizer = keras.optimizers.Adam(1e-4)
    optimizer.build(tower.trainable_variables)
    state = [tower.trainable_variables, tower.non_trainable_variables, optimizer.variables]
    # Copies: a step gives away the memory of its arguments.
    values = [[ops.copy(variable.value) for variable in variables] for variables in state]

    def forward(trained: Any, fixed: Any, frames: Any) -> Any:
        return tower.stateless_call(trained, fixed, frames, training=False)[0]

    def loss(trained: Any, fixed: Any, frames: Any) -> Any:
        features, fixed = tower.stateless_call(trained, fixed, frames, training=True)
        return ops.mean(ops.square(ops.cast(features, "float32"))), fixed

    def train(trained: Any, fixed: Any, moments: Any, frames: Any) -> Any:
        gradients, fixed = jax.grad(loss, has_aux=True)(trained, fixed, frames)
        trained, moments = optimizer.stateless_apply(moments, gradients, trained)
        return trained, fixed, moments

    if part == "forward":
        return jax.jit(forward), values[:2]
    return jax.jit(train, donate_argnums=(0, 1, 2)), values


def measured(function: Any, given: list[Any], last: Any, runs: int) -> tuple[float, int]:
    """Median seconds of several runs behind two that warm up, and the bytes that they need."""
    program = function.lower(*given, last).compile()
    sizes = program.memory_analysis()
    needed = sizes.argument_size_in_bytes + sizes.output_size_in_bytes + sizes.temp_size_in_bytes
    seconds = []
    for _ in range(runs + 2):
        start = time.perf_counter()
        results = jax.block_until_ready(program(*given, last))
        seconds.append(time.perf_counter() - start)
        given = results if isinstance(results, tuple) else given
    return statistics.median(seconds[2:]), needed - sizes.alias_size_in_bytes


def rows(flags: argparse.Namespace) -> Iterator[tuple[Any, ...]]:
    """Measures what the flags name, a row at a time."""
    shape = (flags.clips, flags.frames, flags.side, flags.side, 3)
    frames = keras.random.randint(shape, 0, 256, "uint8", seed=0)
    for dtype in flags.dtypes.split(","):
        matrix = ops.ones((flags.matrix, flags.matrix), dtype)
        seconds, _ = measured(jax.jit(ops.matmul), [matrix], matrix, flags.runs)
        peak = 2 * flags.matrix**3 / seconds
        has_flash = dtype == "bfloat16" and jax.default_backend() == "gpu"
        variants = TRAINED if has_flash else TRAINED[:-1]
        for name in flags.sizes.split(","):
            for part, variant in [("forward", ""), *(("train", one) for one in variants)]:
                keras.utils.set_random_seed(0)
                with varied(variant):
                    tower = VideoTower(
                        SIZES[name], shape, "mixed_bfloat16" if dtype == "bfloat16" else dtype
                    )
                    tower.transformer.remat = variant == "blocks"
                    tower.build(shape)
                    seconds, needed = measured(*program_of(tower, part), frames, flags.runs)
                kept = tower.drop_token.kept if part == "train" else tower.drop_token.tokens
                flops = 2 * kept * 3 * math.prod(PATCH) * SIZES[name].d_model
                flops += transformer_flops(SIZES[name], kept + 1)
                speed = flops * flags.clips * (3 if part == "train" else 1) / seconds
                figures = 1e3 * seconds, flags.clips / seconds, speed / 1e12, 100 * speed / peak
                yield name, dtype, part, variant, *figures, needed / 1e9


def main(argv: list[str] | None = None) -> None:
    """Prints a row for each tower, dtype and variant as soon as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="base,large", help=f"some of {', '.join(SIZES)}")
    parser.add_argument("--dtypes", default="float32,bfloat16", help="float32, bfloat16")
    parser.add_argument("--clips", type=int, default=16, help="clips at a time")
    parser.add_argument("--frames", type=int, default=32, help="frames of a clip")
    parser.add_argument("--side", type=int, default=224, help="pixels of a side of a frame")
    parser.add_argument("--runs", type=int, default=10, help="measured runs")
    parser.add_argument("--matrix", type=int, default=8192, help="side of the peak's matrices")
    parser.add_argument("--out", help="write the rows to this JSON file")
    flags = parser.parse_args(argv)
    if keras.backend.backend() != "jax":
        parser.exit(2, f"error: KERAS_BACKEND={keras.backend.backend()}: expected jax\n")
    print(f"{jax.devices()[0].device_kind}, JAX {jax.__version__}, Keras {keras.__version__}")
    print("  ".join(title.rjust(9) for title in TITLES))
    found: list[dict[str, Any]] = []
    for row in rows(flags):
        texts = (f"{cell:.4g}" if isinstance(cell, float) else cell for cell in row)
        print("  ".join(text.rjust(9) for text in texts), flush=True)
        found.append(dict(zip(TITLES, row, strict=True)))
    if flags.out:
        pathlib.Path(flags.out).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
