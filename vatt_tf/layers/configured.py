"""Layers whose configuration is what they were made of."""

from __future__ import annotations

import inspect
from typing import Any

import keras


class ConfiguredLayer(keras.layers.Layer):
    """A layer that keeps the arguments of its constructor in attributes of their names.

    They are its configuration. Its outputs have the shape of its inputs, unless it says otherwise.
    """

    def get_config(self) -> dict[str, Any]:
        parameters = list(inspect.signature(type(self).__init__).parameters.values())[1:]
        names = [one.name for one in parameters if one.kind is not one.VAR_KEYWORD]
        return {**{name: getattr(self, name) for name in names}, **super().get_config()}

    def compute_output_shape(self, inputs_shape: Any) -> Any:
        return tuple(inputs_shape)
