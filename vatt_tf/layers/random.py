"""Random numbers of the model as a function of a key: dropout and DropToken that can be replayed.

A training step opens ``with seed_scope(key):`` around the forward pass, where the key is made from
(seed, step, replica). A resumed run then draws what the uninterrupted one would have drawn, and
replicas do not share their masks. Outside a scope the layers draw as stock Keras ones.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

# Odd multipliers (golden ratio and murmur3): draw n of one key never meets draw m of a key that
# differs by a small step or replica number, as sums of small numbers would.
_STRIDES = (0x1E3779B1, 0x05EBCA6B)


class seed_scope(keras.StatelessScope):
    """Makes every draw of a ``keras.random.SeedGenerator`` inside a pure function of the key.

    The n-th draw inside the scope depends on ``(key, n)`` only, and the states of the generators
    are left alone. Other variables, such as the moving averages of BatchNorm, get what they are
    assigned when the scope ends. Scopes nest (the innermost counts) and are local to the thread.
    Layers are to be built before.

    Args:
        key: Integer tensor or array of shape [2], e.g. ``(seed + step, replica)``.
        hold: Whether those variables stay as they are, too: gradient caching calls the towers twice
            on the same clips, which count once.
    """

    def __init__(self, key: Any, hold: bool = False) -> None:
        super().__init__()
        self.key = key
        self.hold = hold
        self.draws = 0
        self.updated: dict[int, keras.Variable] = {}

    def get_current_value(self, variable: keras.Variable) -> Any:
        value = super().get_current_value(variable)
        if value is None and _is_seed(variable):
            # Below 2**31, so that the sum is legal in every backend's seed type.
            offset = [self.draws * stride % 2**31 for stride in _STRIDES]
            offset = ops.convert_to_tensor(offset, dtype=variable.dtype)
            value = ops.cast(self.key, variable.dtype) + offset
            self.draws += 1
            super().add_update((variable, value))
        elif value is None and self.original_scope is not None:
            value = self.original_scope.get_current_value(variable)
        return value

    def add_update(self, update: tuple[keras.Variable, Any]) -> None:
        variable = update[0]
        if _is_seed(variable):
            del self.state_mapping[id(variable)]  # Its next draw has a number of its own.
        else:
            super().add_update(update)
            self.updated[id(variable)] = variable

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        if not self.hold and error[0] is None:
            for variable in self.updated.values():
                variable.assign(super().get_current_value(variable))


def _is_seed(variable: keras.Variable) -> bool:
    return variable.name == "seed_generator_state"
