"""MMV's released weights (``mmv_s3d``, ``mmv_tsm_resnet_x1``, ``mmv_tsm_resnet_x2``) in our model.

pickle -> arrays by name (mmv_source.py) -> configuration (recognise_mmv.py) -> names of our
variables (official_mmv_names.py) -> our model
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import keras
import numpy as np

from vatt_tf.encoders.audio_resnet import SpectrogramResNetEncoder
from vatt_tf.encoders.s3d import S3DGEncoder
from vatt_tf.encoders.text import LinearTextEncoder
from vatt_tf.encoders.tsm_resnet import TSMResNetEncoder
from vatt_tf.errors import UserError
from vatt_tf.heads.mmv import MMVFACHead
from vatt_tf.models.config.vatt import VattConfig
from vatt_tf.models.vatt import abstract_vatt, build_vatt
from vatt_tf.pretrained import official_mmv_names as names
from vatt_tf.pretrained.mmv_source import MMVSource
from vatt_tf.pretrained.official_vatt import Converted, MappedVariable
from vatt_tf.pretrained.recognise_mmv import recognise_mmv

_MODULES: dict[type[keras.layers.Layer], Callable[[str], str]] = {
    S3DGEncoder: names.s3d_module,
    TSMResNetEncoder: names.tsm_module,
    SpectrogramResNetEncoder: names.audio_module,
    LinearTextEncoder: names.text_module,
    MMVFACHead: names.head_module,
}


def map_layer(layer: keras.layers.Layer) -> dict[str, str]:
    """Maps every variable of a layer to its name in MMV's files.

    Args:
        layer: A built tower (S3D-G, TSM-ResNet, audio ResNet, linear text) or the FAC head.

    Returns:
        Path of our variable -> name, below the model's module.
    """
    module_of = _MODULES[type(layer)]
    mapped = {}
    for variable in layer.weights:
        path, _, name = variable.path.removeprefix(f"{layer.path}/").rpartition("/")
        mapped[variable.path] = f"{module_of(path)}/{names.variable_name(name)}"
    return mapped


def _value(source: MMVSource, entry: MappedVariable) -> np.ndarray:
    # Haiku keeps kernels as Keras does. Its norms have axes of length 1 for all but the channels,
    # its one-dimensional convolution over single words one for the window.
    return source.read(entry.keys[0]).reshape(entry.shape).astype(np.float32)


def _fits(found: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether shapes differ by axes of length 1 in front at most."""
    extra = len(found) - len(shape)
    return extra >= 0 and found == (1,) * extra + shape


def _assign(
    variables: Sequence[keras.Variable],
    keys: Mapping[str, str],
    source: MMVSource,
    wanted: Iterable[str],
) -> tuple[list[MappedVariable], dict[str, str]]:
    """Checks a mapping against the file.

    Args:
        variables: Ours; need hold no values.
        keys: Path of our variable -> name in the file.
        source: The file.
        wanted: Names that need a mapping: in ``keys``, or a reason to be left out.

    Returns:
        Our variables with their names in the file; left-out name -> reason.

    Raises:
        UserError: If anything is missing, left over or of another shape; lists it.
    """
    mapped, missing, wrong = [], [], []
    for variable in variables:
        key, shape = keys[variable.path], tuple(variable.shape)
        if key not in source.shapes:
            missing.append(key)
        elif not _fits(source.shapes[key], shape):
            wrong.append(f"{key} {source.shapes[key]} for {variable.path} {shape}")
        mapped.append(MappedVariable(variable.path, shape, (key,)))
    wanted = set(wanted)
    left_out = {
        key: reason
        for key in sorted(wanted)
        if (reason := next((why for part, why in names.LEFT_OUT.items() if part in key), None))
    }
    unused = sorted(wanted - set(keys.values()) - set(left_out))
    if missing or unused or wrong:
        raise UserError(
            f"{source.prefix}: does not map one-to-one; not in the file: {_listed(missing)}; "
            f"unknown: {_listed(unused)}; of another shape: {_listed(wrong)}"
        )
    return mapped, left_out


def _listed(entries: Sequence[str], most: int = 6) -> str:
    more = f" and {len(entries) - most} more" if len(entries) > most else ""
    return (", ".join(entries[:most]) or "nothing") + more


def convert_mmv(
    source: MMVSource,
    config: VattConfig | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Converted:
    """Makes our model from a file of MMV's release.

    Args:
        source: The file.
        config: The expected model; None takes it from the shapes. Clips of another size are
            possible: no variable depends on it.
        progress: Called with the variables done and their number.

    Raises:
        UserError: If it is no such file, does not fit the configuration, or holds a value that
            cannot be used.
    """
    found = recognise_mmv(source.shapes, source.prefix)
    if config is not None:
        found.check(config)
    ours = found.config if config is None else config
    # Everything is checked before the first value is read.
    empty = abstract_vatt(ours)
    keys: dict[str, str] = {}
    for layer in (*empty.towers.values(), empty.head):
        keys |= map_layer(layer)
    mapped, left_out = _assign(empty.weights, keys, source, source.shapes)
    left_out |= {key: "beside the weights" for key in source.beside}
    source.step()
    model = build_vatt(ours, dtype="float32")
    variables = {variable.path: variable for variable in model.weights}
    for done, entry in enumerate(mapped):
        progress(done, len(mapped))
        variables[entry.path].assign(_value(source, entry))
    progress(len(mapped), len(mapped))
    return Converted(model, found.describe(), mapped, left_out)
