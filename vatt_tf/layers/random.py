"""Random numbers of the model as a function of a key: dropout and DropToken that can be replayed.

A training step opens ``with seed_scope(key):`` around the forward pass, where the key is made from
(seed, step, replica). A resumed run then draws what the uninterrupted one would have drawn, and
replicas do not share their masks. Outside a scope the layers behave as stock Keras ones.
"""

from __future__ import annotations

import contextlib
from typing import Any

import keras
from keras import ops

from vatt_tf.layers.thread_value import ThreadValue

# Odd multipliers (golden ratio and murmur3): draw n of one key never meets draw m of a key that
# differs by a small step or replica number, as sums of small numbers would.
_STRIDES = (0x1E3779B1, 0x05EBCA6B)

_SCOPE = ThreadValue()


class _Scope:
    """Key of the innermost open scope and the number of draws made from it."""

    def __init__(self, key: Any) -> None:
        self.key = key
        self.draws = 0


def seed_scope(key: Any) -> contextlib.AbstractContextManager[None]:
    """Makes every draw of a :class:`SeedStream` inside a pure function of the key.

    The n-th draw inside the scope depends on ``(key, n)`` only, and the state variables of the
    streams are left alone. Scopes nest (the innermost counts) and are local to the thread.

    Args:
        key: Integer tensor or array of shape [2], e.g. ``(seed + step, replica)``.
    """
    return _SCOPE.during(_Scope(key))


class SeedStream(keras.random.SeedGenerator):
    """A ``SeedGenerator`` that obeys :func:`seed_scope`."""

    def next(self, ordered: bool = True) -> Any:
        """Returns the seed of the next draw, integer [2]."""
        scope = _SCOPE.value
        if scope is None:
            return super().next(ordered=ordered)
        number, scope.draws = scope.draws, scope.draws + 1
        dtype = self.backend.random_seed_dtype()
        # Below 2**31, so that the sum is legal in every backend's seed type.
        offset = [number * stride % 2**31 for stride in _STRIDES]
        return ops.cast(scope.key, dtype) + ops.convert_to_tensor(offset, dtype=dtype)
