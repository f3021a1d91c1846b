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
from typing import Any, NamedTuple

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

VARIANTS = ("kept", "regions", "blocks", "flash")
PATCH = (4, 16, 16)


class Size(NamedTuple):
    """Shape of a Transformer (paper, table 7)."""

    num_layers: int
    d_model: int
    num_heads: int
    d_ff: int
    d_kv: int = 64


SIZES = {
    "tiny": Size(2, 32, 2, 64, 16),
    "base": Size(12, 768, 12, 3072),
    "large": Size(24, 1024, 16, 4096),
}


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

    def __init__(self, size: Size, shape: tuple[int, ...], dtype: str, variant: str) -> None:
        super().__init__(dtype=dtype)
        grid = [length // patch for length, patch in zip(shape, PATCH, strict=False)]
        policy = self.dtype_policy
        self.patches = PatchEmbedding(PATCH, size.d_model, dtype=policy)
        axes = ("temporal", "vertical", "horizontal")
        self.positions = FactorisedPositions(axes, grid, size.d_model, dtype=policy)
        self.dropout = Dropout(0.1, dtype=policy)
        self.drop_token = DropToken(math.prod(grid), 0.5, dtype=policy)
        self.agg = AggToken(dtype=policy)
        sizes = {name: value for name, value in size._asdict().items() if name != "d_model"}
        self.transformer = blocks.Transformer(**sizes, dropout_rate=0.1, dtype=policy)
        self.transformer.remat = variant == "blocks"

    def build(self, shape: tuple[int, ...]) -> None:
        """Makes the variables."""
        self.patches.build(shape)
        tokens = (shape[0], self.drop_token.tokens, self.patches.d_model)
        for layer in (self.positions, self.dropout, self.drop_token, self.agg):
            layer.build(tokens)
        self.transformer.build(tokens)

    def call(self, frames: Any, training: bool = False) -> Any:
        """uint8 [B, T, H, W, 3] -> pooled features [B, d]."""
        grid = self.patches.grid(frames.shape)
        indices = self.drop_token.indices(math.prod(grid), training)
        tokens = self.positions(self.patches(frames, indices=indices), grid=grid, indices=indices)
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


def forward_pass(tower: VideoTower, frames: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """The compiled forward pass without dropout and its arguments."""
    trained, fixed = values(tower.trainable_variables), values(tower.non_trainable_variables)

    def forward(trained: Any, fixed: Any, frames: Any) -> Any:
        return tower.stateless_call(trained, fixed, frames, training=False)[0]

    return jax.jit(forward).lower(trained, fixed, frames).compile(), (trained, fixed, frames)


def training_step(tower: VideoTower, frames: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """The compiled training step and its arguments, of which the first three are its results."""
    optimizer = keras.optimizers.Adam(1e-4)
    optimizer.build(tower.trainable_variables)

    def loss(trained: Any, fixed: Any, frames: Any) -> Any:
        features, fixed = tower.stateless_call(trained, fixed, frames, training=True)
        return ops.mean(ops.square(ops.cast(features, "float32"))), fixed

    def step(trained: Any, fixed: Any, moments: Any, frames: Any) -> Any:
        gradients, fixed = jax.grad(loss, has_aux=True)(trained, fixed, frames)
        trained, moments = optimizer.stateless_apply(moments, gradients, trained)
        return trained, fixed, moments

    state = [tower.trainable_variables, tower.non_trainable_variables, optimizer.variables]
    arguments = (*map(values, state), frames)
    return jax.jit(step, donate_argnums=(0, 1, 2)).lower(*arguments).compile(), arguments


def values(variables: list[Any]) -> list[Any]:
    """Copies of the values: a step gives away the memory of its arguments."""
    return [ops.copy(variable.value) for variable in variables]


def seconds_of(program: Any, arguments: tuple[Any, ...], runs: int) -> float:
    """Median of several runs behind two that warm up."""
    taken = []
    for _ in range(runs + 2):
        start = time.perf_counter()
        results = jax.block_until_ready(program(*arguments))
        taken.append(time.perf_counter() - start)
        if isinstance(results, tuple):
            arguments = (*results, arguments[-1])
    return statistics.median(taken[2:])


def peak_flops(dtype: str, side: int, runs: int) -> float:
    """FLOP/s of a product of square matrices."""
    matrix = ops.ones((side, side), dtype)
    program = jax.jit(lambda a, b: a @ b).lower(matrix, matrix).compile()
    return 2 * side**3 / seconds_of(program, (matrix, matrix), runs)


def memory_of(program: Any) -> int:
    """Bytes of arguments, results that are not arguments, and temporary tensors."""
    sizes = program.memory_analysis()
    results = sizes.output_size_in_bytes - sizes.alias_size_in_bytes
    return sizes.argument_size_in_bytes + results + sizes.temp_size_in_bytes


def rows(flags: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measures what the flags name, a row at a time."""
    shape = (flags.clips, flags.frames, flags.side, flags.side, 3)
    frames = keras.random.randint(shape, 0, 256, "uint8", seed=0)
    tokens = math.prod(n // p for n, p in zip(shape[1:], PATCH, strict=False))
    on_gpu = jax.default_backend() == "gpu"
    for dtype in flags.dtypes.split(","):
        policy = "mixed_bfloat16" if dtype == "bfloat16" else dtype
        peak = peak_flops(dtype, flags.matrix, flags.runs)
        for name in flags.sizes.split(","):
            size = SIZES[name]
            for part, variant in [("forward", "kept"), *(("train", one) for one in VARIANTS)]:
                if variant == "flash" and not (on_gpu and dtype == "bfloat16"):
                    continue
                keras.utils.set_random_seed(0)
                with varied(variant):
                    tower = VideoTower(size, shape[1:], policy, variant)
                    tower.build(shape)
                    compiled = forward_pass if part == "forward" else training_step
                    program, arguments = compiled(tower, frames)
                bytes_asked = memory_of(program)
                seconds = seconds_of(program, arguments, flags.runs)
                kept = tokens // 2 if part == "train" else tokens
                flops = 2 * kept * 3 * math.prod(PATCH) * size.d_model
                flops += transformer_flops(size, kept + 1)
                flops *= flags.clips * (3 if part == "train" else 1)
                yield {
                    "tower": name,
                    "dtype": dtype,
                    "part": part,
                    "variant": variant if part == "train" else "",
                    "milliseconds": 1e3 * seconds,
                    "clips_per_second": flags.clips / seconds,
                    "tflops_per_second": flops / seconds / 1e12,
                    "mfu_percent": 100 * flops / seconds / peak,
                    "gigabytes": bytes_asked / 1e9,
                }


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
        parser.exit(2, "error: set KERAS_BACKEND=jax\n")
    found: list[dict[str, Any]] = []
    print(f"{jax.devices()[0].device_kind}, JAX {jax.__version__}, Keras {keras.__version__}")
    for row in rows(flags):
        if not found:
            print("  ".join(row))
        texts = (f"{x:.1f}" if isinstance(x, float) else x for x in row.values())
        print("  ".join(text.rjust(len(k)) for text, k in zip(texts, row, strict=True)), flush=True)
        found.append(row)
    if flags.out:
        pathlib.Path(flags.out).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
