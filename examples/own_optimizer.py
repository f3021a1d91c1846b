"""An optimizer of one's own: Keras's Lion.

In gin: ``import own_optimizer`` and ``optimizer.name = 'lion'``.
"""

from __future__ import annotations

from typing import Any

import keras

from vatt_tf.training.optimization.optimizer import OPTIMIZERS


@OPTIMIZERS.register("lion")
def lion(
    learning_rate: Any, *, beta_1: float, beta_2: float, weight_decay: float, **_: float
) -> keras.optimizers.Optimizer:
    """Lion (Chen et al., 2023) with the options of ``optimizer`` that it has.

    Args:
        learning_rate: A number or a schedule.
        beta_1: Weight of the momentum in the update.
        beta_2: Decay of the momentum.
        weight_decay: Decoupled weight decay.
        **_: The options that it does not have.
    """
    return keras.optimizers.Lion(
        learning_rate, beta_1, beta_2, weight_decay=weight_decay, name="lion"
    )
