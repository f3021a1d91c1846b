"""The configuration of a head, and the registry from which its kind chooses one."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

import gin

from vatt_tf.fields import added_later, check_flag, check_positive, fail, made_from
from vatt_tf.registry import Registry

HEADS: Registry[Any] = Registry("common_space.kind")
OPTIONS = ("va_dim", "vt_dim", "vat_dim")


@gin.configurable("common_space")
@dataclasses.dataclass(frozen=True)
class HeadConfig:
    """The head that maps features into the common spaces.

    Attributes:
        kind: ``"fac"`` (fine video-audio space, coarse video-text space reached through it),
            ``"shared"`` (one space) or ``"disjoint"`` (two independent spaces), as VATT has them;
            ``"mmv_fac"``, ``"mmv_shared"``, ``"mmv_disjoint"`` as MMV has them; ``"linear"`` (one
            layer per modality into one space, as MIL-NCE has it).
        va_dim: Width of the video-audio space (fac, disjoint; 512 by default).
        vt_dim: Width of the video-text space (fac, disjoint; 256 by default).
        vat_dim: Width of the space of all three (mmv_fac, 256 by default; shared, mmv_shared and
            linear, 512). mmv_fac also takes ``vt_dim``, its name for it in earlier versions.
        masked_statistics: Whether BatchNorm takes the statistics of a batch from the clips and
            captions that are there; False: from all rows, padding too, as the released code does,
            which stays the default: trainings show neither of the two ahead
            (docs/measurements/designs.md).
    """

    kind: str = "fac"
    va_dim: int | None = None
    vt_dim: int | None = None
    vat_dim: int | None = None
    masked_statistics: bool = added_later(False)

    def __post_init__(self) -> None:
        head = HEADS[self.kind]
        check_flag("common_space.masked_statistics", self.masked_statistics)
        given = {name: getattr(self, name) for name in OPTIONS if getattr(self, name) is not None}
        if self.masked_statistics and "masks" not in inspect.signature(head.call).parameters:
            fail("common_space.masked_statistics", True, f"False: {self.kind} reads no masks")
        for name, value in given.items():
            check_positive(f"common_space.{name}", value)
        if self.kind == "mmv_fac" and "vt_dim" in given:
            given.setdefault("vat_dim", given["vt_dim"])
        # What the head does not read is None, so that equal heads have equal configurations.
        for name in OPTIONS:
            value = given.get(name, head.options[name]) if name in head.options else None
            object.__setattr__(self, name, value)

    @property
    def widths(self) -> dict[str, int]:
        """The options that the head reads."""
        return {name: getattr(self, name) for name in HEADS[self.kind].options}

    def build(self, **kwargs: Any) -> Any:
        """The head, a :class:`vatt_tf.heads.common_space.CommonSpace`, without variables yet.

        Args:
            **kwargs: Of ``keras.layers.Layer``, e.g. ``dtype`` and ``name``.
        """
        return HEADS[self.kind](**self.widths, **kwargs)


def head_from_dict(values: Any) -> HeadConfig:
    """Makes the configuration of a head from its JSON form.

    Earlier versions wrote every width; mmv_fac took that of its space ``vat`` from ``vt_dim``.

    Raises:
        UserError: When a key is unknown or missing, or a value is wrong.
    """
    if isinstance(values, Mapping) and values.get("kind") == "mmv_fac" and values.get("vt_dim"):
        values = {**values, "vat_dim": values["vt_dim"]}
    return made_from(HeadConfig, values, "head")


def unread_options() -> list[str]:
    """Bound options of ``common_space`` that the bound kind of head does not read."""
    bound = dict(gin.get_bindings("common_space"))
    kind = bound.pop("kind", HeadConfig.kind)
    read = {*HEADS[kind].options, "masked_statistics"}
    if kind == "mmv_fac" and "vat_dim" not in bound:
        read.add("vt_dim")
    return [f"common_space.{name}" for name in bound if name not in read]
