"""Weights from one model into another of the same kind, by the paths of the variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from vatt_tf.errors import UserError
from vatt_tf.layers.transformer.positions import interpolation_matrix

if TYPE_CHECKING:
    from vatt_tf.models.vatt import VATT


def transfer_weights(source: keras.Model, target: keras.Model, name: str) -> list[str]:
    """Gives every weight of ``target`` the value of the weight of that path in ``source``.

    Args:
        source: Model with weights.
        target: Built model of the same kind.
        name: Where the source comes from, for messages.

    Returns:
        Paths of the position tables that were interpolated.

    Raises:
        UserError: If a weight is missing, left over or of another shape; lists them.
    """
    return assign_values(
        {variable.path: variable for variable in source.weights},
        {variable.path: variable for variable in target.weights},
        name,
    )


def transfer_common_towers(source: VATT, target: VATT, name: str) -> list[str]:
    """:func:`transfer_weights` from a model that has fewer towers than ``target``.

    The head is taken where it is the same but for the branches of the other towers.

    Args:
        source: Model with weights, whose towers ``target`` has too.
        target: Built model.
        name: Where the source comes from, for messages.

    Returns:
        Paths of the position tables that were interpolated.

    Raises:
        UserError: As :func:`transfer_weights`.
    """

    def weights(model: VATT) -> dict[str, keras.Variable]:
        parts = [model.tower(modality) for modality in source.config.modalities]
        if source.config.head == target.config.head:
            branches = model.head.branches()
            parts += [
                layer for modality in source.config.modalities for layer in branches[modality]
            ]
        return {weight.path: weight for part in parts for weight in part.weights}

    return assign_values(weights(source), weights(target), name)


def assign_values(
    values: Mapping[str, Any], variables: Mapping[str, keras.Variable], name: str
) -> list[str]:
    """Gives every variable the value of its path, or changes nothing.

    Position tables of another size are interpolated (docs/reference.md, Position interpolation).

    Args:
        values: Arrays or variables by path.
        variables: The variables to set, by path.
        name: Where the values come from, for messages.

    Returns:
        Paths of the position tables that were interpolated.

    Raises:
        UserError: If a value is missing, left over or of another shape; lists them.
    """
    wrong = [f"{path} is not in it" for path in variables if path not in values]
    wrong += [f"{path} has no place in this model" for path in values if path not in variables]
    interpolated = []
    for path in [path for path in variables if path in values]:
        found, shape = tuple(values[path].shape), tuple(variables[path].shape)
        if found == shape:
            continue
        if "/positions/" in f"/{path}" and found[1:] == shape[1:]:
            interpolated.append(path)
        else:
            wrong.append(f"{path} is {found} in it, {shape} in this model")
    if wrong:
        more = f" and {len(wrong) - 6} more" if len(wrong) > 6 else ""
        raise UserError(f"{name}: does not fit the model: {'; '.join(wrong[:6])}{more}")
    for path, variable in variables.items():
        value = keras.ops.convert_to_numpy(values[path])
        if path in interpolated:
            matrix = interpolation_matrix(value.shape[0], variable.shape[0])
            value = (matrix @ value.astype(np.float64)).astype(np.float32)
        variable.assign(value)
    return interpolated
