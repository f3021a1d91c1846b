"""A pickle as plain containers and NumPy arrays, read without running anything that it names.

A pickle is a program that may name any function. Here a name gives one of the stand-ins below or
an error: no module is imported, and NumPy never sees a file's own types, shapes or flags before
they are checked. Arrays are views of the bytes in the file.
"""

from __future__ import annotations

import itertools
import math
import mmap
import os
import pickle
import pickletools
from collections.abc import Callable
from typing import Any

import numpy as np

from vatt_tf.errors import UserError

_MAX_DEPTH = 32
_MAX_AXES = 32
_MAX_SIDE = 2**40
# NumPy's codes of plain numbers.
_NUMBERS = frozenset("b1 i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8".split())
_ORDERS = {"<": "<", ">": ">", "=": "=", "|": "="}
_OTHER_FORMATS = {
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "a gzip file; unpack it first",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUM": "a NumPy .npy file",
    b"<": "a web page or XML",
}
# First opcodes of protocols 0 and 1: a container or a name.
_OLD_STARTS = (b"(", b"c", b"}", b"]")
_ERRORS = (
    pickle.UnpicklingError, EOFError, ValueError, TypeError, IndexError, KeyError,
    AttributeError, ImportError, OverflowError, MemoryError, RecursionError,
)  # fmt: skip


def is_pickle(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as a binary pickle (protocol 2 and later)."""
    try:
        with open(path, "rb") as file:
            start = file.read(2)
    except OSError:
        return False
    return len(start) == 2 and start[0] == 0x80 and 2 <= start[1] <= pickle.HIGHEST_PROTOCOL


def load(path: str | os.PathLike[str]) -> Any:
    """Reads a pickle of dicts, lists, tuples, numbers, strings and NumPy arrays.

    Also read, as what they hold: the arrays of JAX, the mappings of Haiku, ``OrderedDict``, and
    the detours of dill; none of these packages is needed or imported.

    Args:
        path: The file; text written by Python 2 is read as latin-1.

    Returns:
        The containers as dict, list and tuple; arrays are read-only.

    Raises:
        UserError: If it is no pickle, is cut off, names anything else, or is not what it says.
    """
    name = os.fspath(path)
    try:
        with open(path, "rb") as file:
            _check_start(file.read(4))
            # Unlike a file, it asks for no more memory than there is to read.
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                _check_opcodes(content)
                content.seek(0)
                return _plain(_Unpickler(content).load(), 0, {})
    except OSError as error:
        raise UserError(f"{name}: cannot be read ({error.strerror or error})") from error
    except _ERRORS as error:
        raise UserError(f"{name}: not a readable pickle of arrays: {error}") from error


def _check_start(start: bytes) -> None:
    if start[:1] == b"\x80" and 2 <= start[1] <= pickle.HIGHEST_PROTOCOL:
        return
    if start[:1] in _OLD_STARTS:
        return
    found = next((what for magic, what in _OTHER_FORMATS.items() if start.startswith(magic)), "")
    raise ValueError(f"it is {found}" if found else f"it begins with the bytes {start!r}")


def _check_opcodes(content: Any) -> None:
    """Refuses what would get past ``find_class`` or ask for memory that the file does not fill."""
    opcodes = pickletools.genops(content)
    for count in itertools.count():
        try:
            opcode, argument, _ = next(opcodes)
        except StopIteration:
            return
        except ValueError as error:
            raise ValueError(f"it is cut off or damaged ({error})") from error
        if opcode.name.startswith("EXT"):
            raise ValueError("it uses the extension registry of copyreg")
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > count:
            raise ValueError(f"it asks for a table of {argument} objects")


class _Global:
    """A name in a pickle: can be called, and nothing else."""

    __slots__ = ("function", "name")

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name = name
        self.function = function

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError(f"it changes {self.name}")


class _Module:
    """The name of a module, as dill writes it in front of a function's name."""

    __slots__ = ("name",)

    def __init__(self, name: Any) -> None:
        self.name = _known(name, str)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError(f"it changes the module {self.name}")


class _Dtype:
    """The dtype of an array of plain numbers."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any, *flags: Any) -> None:
        if type(code) is not str or code not in _NUMBERS:
            raise pickle.UnpicklingError(
                f"it holds an array of dtype {_shown(code)}; only numbers are read, no objects, "
                "text or records"
            )
        self.code = code
        self.order = "="

    def __setstate__(self, state: Any) -> None:
        # version, byte order, sub-array, names, fields, size, alignment, flags
        _, order, *parts = state
        if (
            type(order) is not str
            or order not in _ORDERS
            or any(part is not None for part in parts[:3])
        ):
            raise pickle.UnpicklingError("it holds an array of records or sub-arrays")
        self.order = _ORDERS[order]

    def array(self, data: Any, shape: Any, order: str) -> np.ndarray:
        """A view of the bytes of an array; never larger than they are."""
        dtype = np.dtype(self.order + self.code)
        if isinstance(data, list):
            raise pickle.UnpicklingError("it holds an array of objects")
        if type(data) not in (bytes, bytearray):
            raise pickle.UnpicklingError(f"the data of an array is a {type(data).__name__}")
        if (
            type(shape) is not tuple
            or len(shape) > _MAX_AXES
            or any(type(size) is not int or not 0 <= size < _MAX_SIDE for size in shape)
            or math.prod(shape) * dtype.itemsize != len(data)
        ):
            raise pickle.UnpicklingError(
                f"it holds an array of shape {_shown(shape)} and dtype {self.code} with "
                f"{len(data)} bytes of data"
            )
        flat = np.frombuffer(data, dtype) if len(data) else np.zeros(0, dtype)
        value = flat.reshape(shape, order="F" if order == "F" else "C")
        value.flags.writeable = False
        return value


class _Array:
    """An array that NumPy's ``_reconstruct`` makes first and fills afterwards."""

    __slots__ = ("_encode", "value")

    def __init__(self, encode: Callable[[str, str], bytes]) -> None:
        self.value: np.ndarray | None = None
        self._encode = encode

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        if type(data) is str:  # Python 2 had no bytes.
            data = self._encode(data, "latin1")
        self.value = _known(dtype, _Dtype).array(data, shape, "F" if fortran is True else "C")


def _shown(value: Any) -> str:
    """A value for a message. A container in which the same one lies many times has no end."""
    if type(value) is tuple and all(type(part) is int for part in value):
        return f"{value!r:.80}"
    return f"{value!r:.80}" if type(value) in (str, int) else f"a {type(value).__name__}"


def _known(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise pickle.UnpicklingError(f"a {type(value).__name__} is where {kind.__name__} belongs")
    return value


class _Unpickler(pickle.Unpickler):
    def __init__(self, content: mmap.mmap) -> None:
        super().__init__(content, encoding="latin1")
        self._text_left = len(content)  # Text that may become bytes: no more than the file holds.
        self._ndarray = _Global("numpy.ndarray", _not_callable)
        self._reconstruct = _Global("numpy _reconstruct", self._new_array)
        from_value = _Global("an array's reconstruction", self._array_of)
        as_it_is = _Global("a mapping of haiku", _mapping)
        self._names: dict[tuple[str, str], _Global] = {
            ("numpy", "ndarray"): self._ndarray,
            ("numpy", "dtype"): _Global("numpy.dtype", _Dtype),
            ("_codecs", "encode"): _Global("_codecs.encode", self._latin1),
            # Protocol 2 has no other way to write no bytes.
            ("__builtin__", "bytes"): _Global("bytes", lambda: b""),
            ("collections", "OrderedDict"): _Global("collections.OrderedDict", lambda: {}),
        }
        # NumPy has moved its modules; files keep the old names, and dill names the inner one.
        for core in ("numpy.core", "numpy._core"):
            for module in (f"{core}.multiarray", f"{core}._multiarray_umath"):
                self._names[module, "_reconstruct"] = self._reconstruct
                self._names[module, "scalar"] = _Global("numpy scalar", _scalar)
            self._names[f"{core}.numeric", "_frombuffer"] = _Global("_frombuffer", _from_buffer)
        # Old JAX pickles its arrays as NumPy's; later versions add a wrapper.
        self._names["jax._src.array", "_reconstruct_array"] = from_value
        self._names["jax._src.device_array", "reconstruct_device_array"] = from_value
        for name in ("FlatMapping", "FlatMap", "frozendict", "FrozenDict"):
            self._names["haiku._src.data_structures", name] = as_it_is
        # dill writes arrays and the functions of compiled modules in its own way.
        for module in ("dill._dill", "dill.dill"):
            self._names[module, "_create_array"] = from_value
            self._names[module, "_import_module"] = _Global("dill _import_module", _Module)
            self._names[module, "_get_attr"] = _Global("dill _get_attr", self._attribute)

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._names[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}, which could run code; only NumPy arrays and plain "
                "containers are read"
            ) from None

    def _attribute(self, module: Any, name: Any) -> Any:
        return self.find_class(_known(module, _Module).name, _known(name, str))

    def _new_array(self, kind: Any, shape: Any, code: Any) -> _Array:
        # The values given here are those of an empty array; the state that follows has the real.
        if kind is not self._ndarray:
            raise pickle.UnpicklingError("it holds an array of another class than numpy.ndarray")
        return _Array(self._latin1)

    def _array_of(self, function: Any, arguments: Any, state: Any, extra: Any = None) -> _Array:
        # ``extra`` tells dill of attributes that an array has not, and JAX that a type is weak.
        known = not extra or type(extra) is dict and list(extra) == ["weak_type"]
        if function is not self._reconstruct or not known:
            raise pickle.UnpicklingError("it reconstructs an array in an unknown way")
        array = self._new_array(*arguments)
        array.__setstate__(state)
        return array

    def _latin1(self, text: Any, encoding: Any) -> bytes:
        """Bytes as protocol 2 spells them."""
        if encoding not in ("latin1", "latin-1"):
            raise pickle.UnpicklingError(f"it asks for the text encoding {_shown(encoding)}")
        self._text_left -= len(_known(text, str))
        if self._text_left < 0:
            raise pickle.UnpicklingError("it makes more bytes than the file holds")
        return text.encode("latin1")


def _not_callable(*arguments: Any) -> Any:
    raise pickle.UnpicklingError("it calls numpy.ndarray")


def _mapping(values: Any) -> Any:
    return _known(values, dict)


def _scalar(dtype: Any, data: Any) -> Any:
    return _known(dtype, _Dtype).array(data, (), "C")[()]


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    return _known(dtype, _Dtype).array(data, shape, order)


def _plain(value: Any, depth: int, done: dict[int, Any]) -> Any:
    """The value without stand-ins; ``done`` keeps what is met twice from being done twice."""
    if depth > _MAX_DEPTH:
        raise ValueError(f"its containers are more than {_MAX_DEPTH} deep")
    kind = type(value)
    if kind in (str, int, float, complex, bool, bytes, bytearray, type(None), np.ndarray):
        return value
    if isinstance(value, np.generic):
        return value
    if kind is _Array and value.value is not None:
        return value.value
    if id(value) in done:
        return done[id(value)]
    if kind is dict:
        if any(type(key) not in (str, int) for key in value):
            raise ValueError("a dict has keys that are no text or numbers")
        made: Any = {key: _plain(item, depth + 1, done) for key, item in value.items()}
    elif kind in (list, tuple):
        made = kind(_plain(item, depth + 1, done) for item in value)
    else:
        raise ValueError(f"it holds a {getattr(value, 'name', kind.__name__)} itself")
    done[id(value)] = made
    return made
