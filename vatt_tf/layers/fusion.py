"""Chains of elementwise operations in one pass over memory: an optional fast path for CPUs.

On a CPU, a tenth of a training step goes into passes over memory that do next to nothing with each
number: dropout, GELU, the gradient of the softmax (docs/measurements/speed.md). A training step
says with :func:`fusion` what compiles them; the masks of dropout are then computed where they are
used, and never there as a whole. Without it, :func:`gelu_dropped` and :func:`softmax_dropped` are
the lines of stock Keras layers.
"""

from __future__ import annotations

import contextlib
import functools
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

Compiler = Callable[[Callable[..., Any]], Callable[..., Any]]

_MOST_POSITIONS = 2**31  # What an int32 counts.
_THREAD = threading.local()


@contextlib.contextmanager
def fusion(compiler: Compiler | None) -> Iterator[None]:
    """While it lasts, chains with a mask are compiled, in this thread.

    Args:
        compiler: Makes a function of tensors to one that computes the same in few passes; it should
            give the same for the same function. None for none.
    """
    outer, _THREAD.compiler = getattr(_THREAD, "compiler", None), compiler
    try:
        yield
    finally:
        _THREAD.compiler = outer


class MaskKey(NamedTuple):
    """A mask that is a function of key and position.

    Attributes:
        key: Integer [2].
        rate: Share of the elements that are dropped.
        compiler: What compiles the chains with this mask; for the gradient, too, which may be asked
            for outside of :func:`fusion`.
        heads_first: Whether positions of [B, heads, ...] are counted as those of [heads, B, ...].
    """

    key: Any
    rate: float
    compiler: Compiler
    heads_first: bool = False

    def compiled(self, function: Callable[..., Any], *options: Any) -> Callable[..., Any]:
        """``f(*values)``: the compiled ``function(*values, kept, *options)``."""
        run = _computing_mask(function, self.rate, self.heads_first, *options)
        return functools.partial(self.compiler(run), self.key)

    def mask(self, shape: Sequence[int]) -> Any:
        """The mask itself, in one pass: bool of the static shape, true for what is kept."""
        return self.compiler(_mask_of(tuple(shape), self.rate))(self.key)


def mask_key(shape: Sequence[Any], rate: float, seed: keras.random.SeedGenerator) -> MaskKey | None:
    """A key in place of a mask of the shape, where chains are compiled and its size is known."""
    compiler = getattr(_THREAD, "compiler", None)
    is_static = all(isinstance(size, int) for size in shape)
    if compiler is None or not is_static or math.prod(shape) >= _MOST_POSITIONS:
        return None
    return MaskKey(seed.next(), rate, compiler)


def masked(values: Any, kept: Any) -> Any:
    """The values that are kept, zero for the others; all where ``kept`` is None."""
    return values if kept is None else ops.where(kept, values, 0.0)


def gelu_dropped(hidden: Any, kept: Any, scale: float) -> Any:
    """``scale * masked(gelu(hidden), kept)`` with the exact GELU, x * Phi(x).

    Args:
        hidden: Any floats.
        kept: Bool of their shape, a key, or None where everything is kept.
        scale: Factor of what is kept.
    """
    if isinstance(kept, MaskKey):
        return kept.compiled(_recomputed_gelu, scale)(hidden)
    hidden = ops.gelu(hidden, approximate=False)
    return hidden if kept is None else masked(hidden, kept) * scale


def softmax_dropped(scores: Any, kept: Any, dtype: str) -> Any:
    """``masked(softmax(scores), kept)`` over the last axis, computed in float32.

    Args:
        scores: float32 [..., N].
        kept: Bool of their shape, a key, or None where everything is kept.
        dtype: Of the result.
    """
    if not isinstance(kept, MaskKey):
        return masked(ops.cast(ops.softmax(scores, axis=-1), dtype), kept)

    @ops.custom_gradient
    def run(scores: Any) -> Any:
        weights = ops.softmax(scores, axis=-1)  # Not compiled: XLA's exponential is slow.

        def gradient(*arguments: Any, upstream: Any = None) -> Any:
            # The backends disagree on how they hand over what comes from above.
            upstream = arguments[0] if upstream is None else upstream
            return kept.compiled(_softmax_gradient)(weights, upstream)

        return kept.compiled(_masked_as, dtype)(weights), gradient

    return run(scores)


def _recomputed_gelu(hidden: Any, kept: Any, scale: float) -> Any:
    def run(hidden: Any) -> Any:
        # Keras's GELU divides by the root of 2, which takes as long as all the rest.
        distribution = (0.5 * scale) * ops.erf(hidden * math.sqrt(0.5)) + 0.5 * scale
        return masked(hidden * distribution, kept)

    return keras.remat(run)(hidden)  # The gradient, too, is one pass.


def _masked_as(weights: Any, kept: Any, dtype: str) -> Any:
    return ops.cast(masked(weights, kept), dtype)


def _softmax_gradient(weights: Any, upstream: Any, kept: Any) -> Any:
    product = weights * masked(ops.cast(upstream, "float32"), kept)
    return product - weights * ops.sum(product, axis=-1, keepdims=True)


@functools.cache
def _mask_of(shape: tuple[int, ...], rate: float) -> Any:
    return lambda key: computed_mask(key, shape, rate)


@functools.cache
def _computing_mask(
    function: Callable[..., Any], rate: float, heads_first: bool, *options: Any
) -> Any:
    """``f(key, *values)``; one function for equal arguments, so that it is compiled once."""

    def run(key: Any, *values: Any) -> Any:
        kept = computed_mask(key, values[0].shape, rate, heads_first)
        return function(*values, kept, *options)

    return run


def computed_mask(key: Any, shape: Sequence[int], rate: float, heads_first: bool = False) -> Any:
    """The mask of a key: bool of the static shape, true for what is kept."""
    if heads_first:
        batch, heads, *others = shape
        return ops.swapaxes(computed_mask(key, (heads, batch, *others), rate), 0, 1)
    return random_bits(key, shape) >= ops.cast(round(rate * 2**32), "uint32")


def random_bits(key: Any, shape: Sequence[int]) -> Any:
    """The hash ``pcg3d`` of (position, key): as good as random, and a few multiplications.

    Jarzynski and Olano, Hash Functions for GPU Rendering, JCGT 9(3), 2020; its first output.

    Args:
        key: Integer [2].
        shape: Static shape of less than 2**31 elements.

    Returns:
        uint32 of the given shape.
    """
    position = ops.arange(math.prod(shape), dtype="int32")
    x = ops.reshape(ops.cast(position, "uint32"), shape)
    x, y, z = (
        value * ops.cast(1664525, "uint32") + ops.cast(1013904223, "uint32")
        for value in (x, *ops.unstack(ops.cast(key, "uint32")))
    )
    x = x + y * z
    y = y + z * x
    z = z + x * y
    x, y, z = (
        ops.bitwise_xor(value, ops.right_shift(value, ops.cast(16, "uint32")))
        for value in (x, y, z)
    )
    return x + y * z
