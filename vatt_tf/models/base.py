"""What all models have in common: they are built from one configuration, which they serialise."""

from __future__ import annotations

from typing import Any, ClassVar

import keras


class ConfiguredModel(keras.Model):
    """Base of the models.

    Args:
        config: The model's configuration, a ``config_class``.
        **kwargs: Name and dtype policy.

    Attributes:
        config_class: Dataclass of the configuration, with ``to_dict`` and ``from_dict``.
        towers: The encoders by modality.
    """

    config_class: ClassVar[Any]
    towers: Any

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config

    @property
    def tower_variables(self) -> list[keras.Variable]:
        """Trainable variables of the towers."""
        head = {id(variable) for variable in self.head_variables}
        return [variable for variable in self.trainable_variables if id(variable) not in head]

    @property
    def head_variables(self) -> list[keras.Variable]:
        """Trainable variables behind the towers."""
        return self.head.trainable_variables

    def set_remat(self, remat: bool) -> None:
        """Sets whether the backward pass computes each Transformer block once more.

        Args:
            remat: See :class:`vatt_tf.layers.transformer.blocks.Transformer`.
        """
        for tower in self.towers.values():
            if hasattr(tower, "transformer"):  # a linear text tower has none
                tower.transformer.remat = remat

    def get_config(self) -> dict[str, Any]:
        base = {"name": self.name, "dtype": keras.saving.serialize_keras_object(self.dtype_policy)}
        return {**base, "config": self.config.to_dict()}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        config = dict(config)
        dtype = keras.saving.deserialize_keras_object(config.pop("dtype"))
        return cls(cls.config_class.from_dict(config.pop("config")), dtype=dtype, **config)
