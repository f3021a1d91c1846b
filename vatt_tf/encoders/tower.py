"""What a tower is: a frozen configuration that gin fills, and the layer that it builds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

import gin
import keras
from keras import ops

from vatt_tf.data.schema import MODALITIES
from vatt_tf.errors import UserError, value_text
from vatt_tf.fields import AsDict, as_sizes, check_positive, fail, made_from, set_field
from vatt_tf.registry import Registry

TOWERS: Registry[type[TowerConfig]] = Registry("tower")
Config = TypeVar("Config", bound="type[TowerConfig]")


class TowerConfig(AsDict):
    """Base of the configurations of towers: frozen dataclasses, registered by :func:`register`.

    Attributes:
        name: Name of the configurable in gin.
        modality: ``"video"``, ``"audio"`` or ``"text"``: the input that the tower reads.
        kinds: Values of the field ``kind`` by which ``model.json`` tells the towers of a modality
            apart; None is the one without such a field.
    """

    name: ClassVar[str]
    modality: ClassVar[str]
    kinds: ClassVar[tuple[str | None, ...]]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input: video [frames, height, width, 3], audio [..., 1], text [tokens]."""
        raise NotImplementedError

    @property
    def output_dim(self) -> int:
        """Width of the pooled features."""
        raise NotImplementedError

    @property
    def clip_fields(self) -> dict[str, Any]:
        """The fields of a :class:`vatt_tf.data.schema.ClipSpec` that the tower decides."""
        raise NotImplementedError

    def build(self, **kwargs: Any) -> Tower:
        """The encoder, without variables yet.

        Args:
            **kwargs: Of ``keras.layers.Layer``, e.g. ``dtype`` and ``name``.
        """
        raise NotImplementedError

    def flops(self, *, training: bool = False, convention: str = "needed") -> int | None:
        """FLOPs of one clip, see :mod:`vatt_tf.models.flops`; None to count them in the graph."""
        del training, convention
        return None


def as_pixels(frames: Any) -> Any:
    """Frames in [-1, 1], or integers: floats of 0 to 255, as ``keras.Input`` gives them, scaled.

    A clip that reaches beyond 2 is no clip in [-1, 1], which resizing may overshoot a little.
    """
    if not keras.backend.is_float_dtype(keras.backend.standardize_dtype(frames.dtype)):
        return frames
    peak = ops.max(frames, axis=tuple(range(1, len(frames.shape))), keepdims=True)
    return ops.where(peak > 2.0, frames / 127.5 - 1.0, frames)


class VideoInput:
    """Mix-in of the configurations of video towers: the fields that describe their clips."""

    frames: int
    image_size: tuple[int, int]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one clip."""
        return (self.frames, *self.image_size, 3)

    @property
    def clip_fields(self) -> dict[str, Any]:
        """The fields of a ``ClipSpec`` that the tower decides."""
        height, width = self.image_size
        return {"frames": self.frames, "height": height, "width": width}


def check_clip(instance: Any, name: str) -> None:
    """Checks ``frames`` and ``image_size`` under their gin names; one number is a square."""
    check_positive(f"{name}.frames", instance.frames)
    if isinstance(instance.image_size, int):
        set_field(instance, "image_size", (instance.image_size, instance.image_size))
    set_field(instance, "image_size", as_sizes(f"{name}.image_size", instance.image_size, 2))


class Tower(keras.layers.Layer):
    """Base of the encoders: raw input to ``features_pooled`` [B, d] (and more, if it likes).

    Args:
        config: Of the class ``config_class``.
        **kwargs: Of ``keras.layers.Layer``.

    Attributes:
        any_size: Whether a graph takes inputs whose size is known only when it runs; then
            ``patch`` (smallest input along each axis) and ``configured_grid`` (positions of the
            features along each axis at the configured size) bound it.
        has_agg: Whether ``pooled_only=True`` leaves out what only ``features`` need.
    """

    config_class: ClassVar[Any]
    any_size = False
    has_agg = False

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config

    @property
    def output_dim(self) -> int:
        """Width of the features."""
        return self.config.output_dim

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "config": self.config.to_dict()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        made = made_from(cls.config_class, config["config"], cls.__name__)
        return cls(**{**config, "config": made})


def register(
    name: str, modality: str, kinds: tuple[str | None, ...] | None = None
) -> Callable[[Config], Config]:
    """Decorator that makes a frozen dataclass a tower: a gin name and an entry of the registry.

    Args:
        name: Name of the configurable: ``vatt.video = @NAME()``.
        modality: What the tower reads.
        kinds: See :class:`TowerConfig`; None for the default of the field ``kind``.

    Raises:
        ValueError: When another tower has the name, or of this modality the kind.
    """
    if modality not in MODALITIES:
        raise ValueError(f"tower {name}: modality is {modality!r}, expected one of {MODALITIES}")

    def add(config: Any) -> Any:
        fields: dict[str, Any] = {f.name: f.default for f in dataclasses.fields(config)}
        config.name, config.modality = name, modality
        config.kinds = (fields.get("kind"),) if kinds is None else kinds
        for other in towers_of(modality):
            if other.name != name and set(other.kinds) & set(config.kinds):
                raise ValueError(
                    f"tower {name}: kind {config.kinds[0]!r} is {other.name}'s; give it a field "
                    "kind of its own"
                )
        return TOWERS.register(name)(gin.configurable(name)(config))

    return add


def towers_of(modality: str) -> tuple[type[TowerConfig], ...]:
    """Configurations of the towers that read a modality; the first is the default."""
    found = [tower for tower in TOWERS.values() if tower.modality == modality]
    return tuple(sorted(found, key=lambda tower: tower.name != f"{modality}_tower"))


def check_tower(name: str, modality: str, tower: Any) -> None:
    """Raises a UserError unless a value is the configuration of a tower of the modality."""
    if not isinstance(tower, towers_of(modality)):
        fail(name, tower, " or ".join(f"@{kind.name}()" for kind in towers_of(modality)))


def tower_from_dict(modality: str, values: Any, where: str) -> Any:
    """Makes the configuration of a tower from its JSON form.

    Args:
        modality: What the tower reads.
        values: The JSON object.
        where: What to call it in messages.

    Raises:
        UserError: When no registered tower is of its kind, or a field is wrong.
    """
    kind = values.get("kind") if isinstance(values, Mapping) else None
    for config in towers_of(modality):
        if kind in config.kinds:
            return made_from(config, values, where)
    known = [known for config in towers_of(modality) for known in config.kinds]
    raise UserError(
        f"model config: {where}.kind is {value_text(kind)}, expected one of "
        f"{', '.join(map(repr, known))}; import the module that registers it (--module=NAME)"
    )
