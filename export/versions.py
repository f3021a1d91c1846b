"""Version folders, and the signatures of a SavedModel without loading it."""

from __future__ import annotations

import dataclasses
import pathlib

from vatt_tf.errors import UserError

PROTO = "saved_model.pb"
# TensorFlow adds this one to every SavedModel.
_INIT = "__saved_model_init_op"


@dataclasses.dataclass(frozen=True)
class TensorInfo:
    """Input or output of a signature.

    Attributes:
        dtype: Name of the dtype.
        shape: Sizes, None where any size is taken.
    """

    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        return f"{self.dtype} [{', '.join('?' if n is None else str(n) for n in self.shape)}]"


@dataclasses.dataclass(frozen=True)
class SignatureInfo:
    """Inputs and outputs of a signature by name."""

    inputs: dict[str, TensorInfo]
    outputs: dict[str, TensorInfo]


def versions_of(folder: pathlib.Path) -> dict[int, pathlib.Path]:
    """Version number -> folder, as TensorFlow Serving reads them: folders named by a number."""
    if not folder.is_dir():
        return {}
    return {
        int(path.name): path
        for path in folder.iterdir()
        if path.name.isascii() and path.name.isdigit() and path.is_dir()
    }


def is_model_folder(folder: pathlib.Path) -> bool:
    """Whether a folder may get versions: it is missing, empty, or has SavedModels in it.

    Other files beside SavedModels are allowed, but no numbered folder with another content, which
    a server would take for a version.
    """
    if not folder.is_dir():
        return not folder.exists()
    filled = [path for path in folder.iterdir() if path.is_file() or any(path.iterdir())]
    filled = [path for path in filled if not path.name.startswith((".", "tmp_"))]
    numbered = [path for path in versions_of(folder).values() if path in filled]
    if not all((path / PROTO).is_file() for path in numbered):
        return False
    return bool(numbered) or not filled


def read_signatures(folder: pathlib.Path) -> dict[str, SignatureInfo]:
    """Signatures of a SavedModel, the default one first.

    Raises:
        UserError: If the folder holds no SavedModel.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    path = folder / PROTO
    try:
        model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    except (OSError, DecodeError) as error:
        raise UserError(f"{path}: not a readable SavedModel ({error})") from error
    signatures = {
        name: SignatureInfo(_tensors(value.inputs), _tensors(value.outputs))
        for graph in model.meta_graphs
        for name, value in graph.signature_def.items()
        if name != _INIT
    }
    return dict(
        sorted(signatures.items(), key=lambda item: (item[0] != "serving_default", item[0]))
    )


def signature_table(folder: pathlib.Path) -> str:
    """Formats the signatures of a SavedModel: a line for each input and output."""
    lines = []
    for name, signature in read_signatures(folder).items():
        lines.append(f"  {name}")
        for arrow, tensors in (("<-", signature.inputs), ("->", signature.outputs)):
            lines += [f"    {arrow} {key:<14} {tensor}" for key, tensor in tensors.items()]
    return "\n".join(lines)


def _tensors(values: dict) -> dict[str, TensorInfo]:
    import tensorflow as tf

    return {
        name: TensorInfo(
            tf.dtypes.as_dtype(value.dtype).name,
            tuple(None if dim.size < 0 else dim.size for dim in value.tensor_shape.dim),
        )
        for name, value in sorted(values.items())
    }
