"""JSON <-> tensors for the REST API: row form ("instances") and column form ("inputs")."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import predict_pb2

from vatt_tf.serving.server.models.status import Code, ServingError, invalid
from vatt_tf.serving.server.requests import tensors

TensorInfos = Mapping[str, meta_graph_pb2.TensorInfo]

_FLOATS = {types_pb2.DT_FLOAT: "float", types_pb2.DT_DOUBLE: "double"}
# Ranges of integers as rapidjson parses them; small dtypes wrap around.
_INT_RANGES = {
    types_pb2.DT_INT8: (-(2**31), 2**31 - 1),
    types_pb2.DT_INT16: (-(2**31), 2**31 - 1),
    types_pb2.DT_INT32: (-(2**31), 2**31 - 1),
    types_pb2.DT_UINT8: (-(2**31), 2**31 - 1),
    types_pb2.DT_INT64: (-(2**63), 2**63 - 1),
    types_pb2.DT_UINT32: (0, 2**32 - 1),
    types_pb2.DT_UINT64: (0, 2**64 - 1),
}
_TYPE_NAMES = {
    dict: "Object",
    list: "Array",
    str: "String",
    type(None): "Null",
    int: "Number",
    float: "Number",
}
# Longest value that an error message quotes.
_MAX_QUOTED_CHARS = 200
# Deepest nesting: that of a NumPy array.
_MAX_DEPTH = 64
# An exponent of a number that may be beyond a double.
_LARGE_EXPONENT = re.compile(rb"[eE]\+?\d{3}")
# An escape sequence; group 1 is half of a pair without the other half.
_ESCAPE = re.compile(rb"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(u[dD][89a-fA-F])|.)", re.DOTALL)


def parse(body: bytes) -> dict[str, Any]:
    """Reads the JSON object of a request.

    Raises:
        ServingError: INVALID_ARGUMENT, if it is none.
    """
    if not body:
        invalid("JSON Parse error: The document is empty")
    if b"\\u" in body and any(escape[1] for escape in _ESCAPE.finditer(body)):
        invalid("JSON Parse error: The surrogate pair in string is invalid.")
    # Bytes that are no UTF-8 go through, as they do in TensorFlow Serving.
    text = body.decode("utf-8", "surrogateescape")
    try:
        document = json.loads(text, parse_float=_finite if _LARGE_EXPONENT.search(body) else None)
    except json.JSONDecodeError as error:
        invalid(f"JSON Parse error: {error.msg} at offset: {error.pos}")
    except (RecursionError, ValueError) as error:
        invalid(f"JSON Parse error: {error}")
    if not isinstance(document, dict):
        invalid(f"JSON Value: {_quote(document)} Is not object")
    return document


def _finite(text: str) -> float:
    number = float(text)
    if np.isinf(number):
        raise ValueError("Number too big to be stored in double.")
    return number


def signature_name(document: Mapping[str, Any]) -> str:
    """Signature name of a request; empty without one."""
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        invalid(
            f"JSON Value: {_quote(document)} not formatted correctly. 'signature_name' key must be "
            "a string value."
        )
    return name


def fill_predict_request(
    request: predict_pb2.PredictRequest,
    document: Mapping[str, Any],
    get_infos: Callable[[str], TensorInfos],
) -> bool:
    """Reads a predict request.

    Args:
        request: Receives signature and inputs.
        document: The JSON object of the request.
        get_infos: Returns the inputs of a signature by its name.

    Returns:
        Whether the request has the row form.

    Raises:
        ServingError: INVALID_ARGUMENT, if the values do not fit the signature's inputs.
    """
    request.model_spec.signature_name = signature_name(document)
    infos = get_infos(request.model_spec.signature_name)
    rows, columns = "instances" in document, "inputs" in document
    if rows and columns:
        invalid(
            f"JSON Value: {_quote(document)} Not formatted correctly expecting only one of "
            "'inputs' or 'instances' keys to exist "
        )
    if rows:
        values = document["instances"]
        if not isinstance(values, list):
            invalid(f"JSON Value: {_quote(document)} Excepting 'instances' to be an list/array")
        if not values:
            invalid(f"JSON Value: {_quote(document)} No values in 'instances' array")
        arrays = _from_rows(values, infos)
    elif columns:
        arrays = _from_columns(document["inputs"], infos)
    else:
        invalid("Missing 'inputs' or 'instances' key")
    for alias, array in arrays.items():
        as_content = array.dtype != object
        tensors.fill_proto(request.inputs[alias], array, as_content=as_content)
    return rows


def _from_columns(value: Any, infos: TensorInfos) -> dict[str, np.ndarray]:
    if not isinstance(value, dict) or is_base64(value):
        if len(infos) > 1:
            invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors "
                "required as per tensorinfo_map"
            )
        (alias, info), *_ = infos.items()
        return {alias: to_array(value, info.dtype)}
    arrays = {}
    for alias, info in infos.items():
        if alias not in value:
            invalid(f"Missing named input: {alias} in 'inputs' object.")
        arrays[alias] = to_array(value[alias], info.dtype)
    return arrays


def _from_rows(rows: list[Any], infos: TensorInfos) -> dict[str, np.ndarray]:
    named = isinstance(rows[0], dict) and not is_base64(rows[0])
    if not isinstance(rows[0], dict) and len(infos) > 1:
        invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors "
            "required as per tensorinfo_map"
        )
    columns: dict[str, list[Any]] = {}
    (only, _), *_ = infos.items()
    for index, row in enumerate(rows):
        is_object = isinstance(row, dict) and not is_base64(row)
        if named and not is_object:
            invalid(f"Expecting object but got list at item {index} of input list")
        if not named and is_object:
            invalid(f"Expecting value/list but got object at item {index} of input list")
        if not named:
            columns.setdefault(only, []).append(row)
            continue
        for alias in row:
            if alias not in infos:
                invalid(
                    f"Failed to process element: {index} key: {alias} of 'instances' list. Error: "
                    f"INVALID_ARGUMENT: JSON object: does not have named input: {alias}"
                )
        if row.keys() != set(infos):
            invalid(
                f"Failed to process element: {index} of 'instances' list. JSON object: "
                f"{_quote(row)} keys must be equal to: {','.join(sorted(infos))}"
            )
        for alias, value in row.items():
            columns.setdefault(alias, []).append(value)
    return {
        alias: _join(values, infos[alias].dtype, f" key: {alias}" if named else "")
        for alias, values in columns.items()
    }


def _join(values: list[Any], dtype: int, key: str) -> np.ndarray:
    """One tensor of the values of all rows, which must have the same shape."""
    array = _fast_array(values, dtype)
    if array is not None:
        return array
    arrays: list[np.ndarray] = []
    for index, value in enumerate(values):
        try:
            array = to_array(value, dtype)
            if arrays and array.size != arrays[0].size:
                invalid(f"Expecting tensor size: {arrays[0].size} but got: {array.size}")
            if arrays and array.shape != arrays[0].shape:
                invalid(f"Expecting shape {_shape(arrays[0])} but got: {_shape(array)}")
        except ServingError as error:
            raise ServingError(
                error.code,
                f"Failed to process element: {index}{key} of 'instances' list. Error: {error}",
            ) from error
        arrays.append(array)
    if arrays[0].ndim == _MAX_DEPTH:
        invalid(f"JSON Value: lists nested {_MAX_DEPTH + 1} deep, at most {_MAX_DEPTH} are taken")
    return np.stack(arrays)


def to_array(value: Any, dtype: int) -> np.ndarray:
    """Makes a tensor of a JSON value: a scalar or lists nested to one depth and of even lengths.

    Args:
        value: The value; strings as text or ``{"b64": ...}``.
        dtype: TensorFlow's number of the dtype that the input has. Nothing is cast but whole
            numbers to floats.

    Raises:
        ServingError: INVALID_ARGUMENT, if a value has another type or a list another length.
    """
    array = _fast_array(value, dtype)
    if array is not None:
        return array
    shape = []
    inner = value
    while isinstance(inner, list):
        shape.append(len(inner))
        if not inner:
            break
        inner = inner[0]
    if len(shape) > _MAX_DEPTH:
        invalid(f"JSON Value: lists nested {len(shape)} deep, at most {_MAX_DEPTH} are taken")
    flat: list[Any] = []
    _flatten(value, 0, shape, dtype, flat)
    if dtype == types_pb2.DT_STRING:
        result = np.empty(len(flat), object)
        result[:] = flat
        return result.reshape(shape)
    kept = np.int64 if dtype in _INT_RANGES and dtype != types_pb2.DT_UINT64 else None
    with np.errstate(over="ignore"):
        return np.array(flat, kept).astype(tensors.numpy_dtype(dtype)).reshape(shape)


def _fast_array(value: Any, dtype: int) -> np.ndarray | None:
    """Fast path of :func:`to_array` for numbers; None where the slow path has to check each."""
    if dtype not in _FLOATS and dtype not in _INT_RANGES:
        return None
    try:
        array = np.array(value)
    except (ValueError, OverflowError):
        return None
    # NumPy converts booleans among numbers to numbers: only the slow path finds them.
    if array.dtype.kind not in ("iuf" if dtype in _FLOATS else "iu") or not array.size:
        return None
    if not _has_only_numbers(value):
        return None
    if dtype in _INT_RANGES:
        low, high = _INT_RANGES[dtype]
        if int(array.min()) < low or int(array.max()) > high:
            return None
        return array.astype(tensors.numpy_dtype(dtype))
    with np.errstate(over="ignore"):  # beyond float32 is infinity, as in TensorFlow Serving
        return array.astype(tensors.numpy_dtype(dtype))


def _has_only_numbers(value: Any) -> bool:
    """Whether lists hold numbers only, no booleans; checks the innermost lists as a whole."""
    if not isinstance(value, list):
        return type(value) in (int, float)
    if value and isinstance(value[0], list):
        return all(map(_has_only_numbers, value))
    return set(map(type, value)) <= {int, float}


def _flatten(value: Any, level: int, shape: list[int], dtype: int, flat: list[Any]) -> None:
    if not isinstance(value, list):
        if level != len(shape):
            invalid(
                f"JSON Value: {_quote(value)} found at incorrect level: {level + 1} in the JSON "
                f"DOM. Expected at level: {len(shape)}"
            )
        flat.append(_scalar(value, dtype))
        return
    if level >= len(shape):
        invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: "
            f"{shape[level]}"
        )
    for item in value:
        _flatten(item, level + 1, shape, dtype, flat)


def _scalar(value: Any, dtype: int) -> Any:
    """Checks a value against a dtype; returns the element of the array."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if dtype == types_pb2.DT_STRING:
        if isinstance(value, str):
            return encode_text(value)
        if isinstance(value, dict):
            return decode_base64(value)
    elif dtype in _FLOATS:
        if number:
            try:
                return float(value)
            except OverflowError:
                invalid("JSON Parse error: Number too big to be stored in double.")
    elif dtype == types_pb2.DT_BOOL:
        if isinstance(value, bool):
            return value
    elif dtype in _INT_RANGES:
        low, high = _INT_RANGES[dtype]
        if number and isinstance(value, int) and low <= value <= high:
            return value
    else:
        raise ServingError(
            Code.UNIMPLEMENTED,
            f"Conversion of JSON Value: {_quote(value)} to type: {_dtype_name(dtype)}",
        )
    kind = str(value) if isinstance(value, bool) else _TYPE_NAMES[type(value)]
    invalid(
        f"JSON Value: {_quote(value)} Type: {kind} is not of expected type: {_dtype_name(dtype)}"
    )


def encode_text(text: str) -> bytes:
    """Bytes of a JSON string, also of one that is no UTF-8."""
    return text.encode("utf-8", "surrogateescape")


def is_base64(value: Any) -> bool:
    """Whether a JSON value is ``{"b64": text}``."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def decode_base64(value: dict[str, Any]) -> bytes:
    """Decodes ``{"b64": text}`` to bytes.

    Raises:
        ServingError: INVALID_ARGUMENT, if it is something else.
    """
    if not is_base64(value):
        invalid(f"JSON Value: {_quote(value)} not formatted correctly for base64 data")
    # White space and padding by dots pass in TensorFlow Serving.
    text = "".join(value["b64"].split()).rstrip("=.")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        invalid("Unable to base64 decode")


def predictions(response: predict_pb2.PredictResponse, rows: bool) -> dict[str, Any]:
    """The JSON object of a reply, in the form of its request.

    Raises:
        ServingError: INVALID_ARGUMENT, if outputs have no common batch axis in row form.
    """
    arrays = {alias: tensors.to_array(proto) for alias, proto in sorted(response.outputs.items())}
    if rows:
        size = None
        for alias, array in arrays.items():
            if not array.ndim:
                invalid(f"Tensor name: {alias} has no shape information ")
            if size is not None and len(array) != size:
                invalid(
                    f"Tensor name: {alias} has inconsistent batch size: {len(array)} expecting: "
                    f"{size}"
                )
            size = len(array)
    values = {alias: _to_json(alias, array) for alias, array in arrays.items()}
    if len(values) == 1:
        (only,) = values.values()
        return {"predictions" if rows else "outputs": only}
    if not rows:
        return {"outputs": values}
    columns = zip(*values.values(), strict=True)
    return {"predictions": [dict(zip(values, row, strict=True)) for row in columns]}


def _to_json(alias: str, array: np.ndarray) -> Any:
    if array.dtype == object:
        encode = _encode_base64 if alias.endswith("_bytes") else _decode_text
        return _map(encode, array.tolist())
    if array.dtype.kind in "iub":
        return array.tolist()
    if array.dtype == np.float64:
        return array.tolist()
    if array.dtype.kind not in "fV":
        invalid(f"Failed to write JSON value for tensor type: {array.dtype}")
    return shortest(array)


def shortest(values: np.ndarray) -> Any:
    """Numbers whose text is the shortest that gives these float32: 0.2, not 0.20000000298023224."""
    return np.asarray(values, np.float32).astype("U").astype(np.float64).tolist()


def _map(function: Callable[[bytes], Any], value: Any) -> Any:
    return [_map(function, item) for item in value] if isinstance(value, list) else function(value)


def _encode_base64(value: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(value).decode("ascii")}


def _decode_text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _quote(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _MAX_QUOTED_CHARS else text[:_MAX_QUOTED_CHARS] + "..."


def _dtype_name(dtype: int) -> str:
    return types_pb2.DataType.Name(dtype).removeprefix("DT_").lower()


def _shape(array: np.ndarray) -> str:
    return f"[{','.join(map(str, array.shape))}]"
