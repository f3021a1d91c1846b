"""Layer-wise learning-rate decay: per-variable multipliers, 0 for frozen towers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

# Blocks of Transformers, units of ResNets, stages of S3D.
_BLOCK = re.compile(r"/(?:block|unit)_(\d+)|/(?:conv|mixed)_(\d)[a-z]/")
# Layers after the last block; all others outside of the blocks come before the first.
_BEHIND = ("/final_norm/", "/post_projection/", "/norm/")


def layerwise_multipliers(variables: Sequence[Any], towers: int, decay: float) -> list[float]:
    """Per-variable learning-rate multipliers of layer-wise learning-rate decay.

    The head learns at the full rate, block i of a tower with L blocks at ``decay ** (L - i)``, what
    follows the last block at ``decay`` and what comes before the first at ``decay ** (L + 1)``. The
    blocks of a convolutional tower are its stages: the units of a ResNet, ``conv_1a`` to
    ``mixed_5c`` of S3D by their number.

    Args:
        variables: The towers' variables, then the head's.
        towers: Number of them that belong to towers.
        decay: Factor from a layer to the one below it, in (0, 1].
    """
    blocks: dict[str, int] = {}
    for variable in variables[:towers]:
        number = _block(variable.path)
        if number is not None:
            tower = _tower(variable.path)
            blocks[tower] = max(blocks.get(tower, 0), number + 1)
    rates = [decay ** _distance(variable.path, blocks) for variable in variables[:towers]]
    return rates + [1.0] * (len(variables) - towers)


def _distance(path: str, blocks: dict[str, int]) -> int:
    """Number of layers between a variable of a tower and the head."""
    count, number = blocks.get(_tower(path), 0), _block(path)
    if number is not None:
        return count - number
    return 1 if any(part in path for part in _BEHIND) else count + 1


def _block(path: str) -> int | None:
    found = _BLOCK.search(path)
    return int(found[1] or found[2]) if found else None


def _tower(path: str) -> str:
    """Modality of a variable's path: ``classifier/video/transformer/...`` -> ``video``."""
    return path.split("/")[1]
