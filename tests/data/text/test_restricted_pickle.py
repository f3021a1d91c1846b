"""What the restricted unpickler reads, and what it refuses without running it."""

from __future__ import annotations

import codecs
import collections
import copyreg
import io
import os
import pickle
import pickletools
import struct
import sys
import zipfile

import numpy as np
import pytest

from tests.pretrained.mmv_file import Named, dumps, flat_mapping
from vatt_tf.data.text import restricted_pickle
from vatt_tf.data.text.restricted_pickle import is_pickle, load
from vatt_tf.errors import UserError


@pytest.fixture
def read(tmp_path):
    def run(content: bytes):
        path = tmp_path / "weights.pkl"
        path.write_bytes(content)
        return load(path)

    return run


@pytest.fixture
def refused(read, tmp_path):
    """Wants a file to be refused, with its name and the reason, and nothing else to happen."""

    def run(content: bytes, match: str) -> None:
        before = sorted(os.listdir(tmp_path))
        with pytest.raises(UserError, match=match) as caught:
            read(content)
        assert str(tmp_path / "weights.pkl") in str(caught.value)
        assert set(os.listdir(tmp_path)) <= {*before, "weights.pkl"}

    return run


def values() -> dict:
    random = np.random.default_rng(0)
    return {
        "params": {
            "a/~/b": {"w": random.normal(size=(2, 3, 4)).astype(np.float32), "b": np.zeros(0)},
            "c": {"fortran": np.asfortranarray(random.normal(size=(3, 5)))},
        },
        "state": {"a": {"counter": np.array(7, np.int32), "scalar": np.float32(0.5)}},
        "more": [1, 2.5, True, None, "text", ("pair", -(10**12)), b"raw"],
        "codes": [np.arange(5).astype(code) for code in (">f8", ">i2", "f2", "u1", "?", "i8")],
        "strided": np.arange(20, dtype=np.int64)[::3],
    }


def assert_same(found, expected) -> None:
    assert isinstance(found, type(expected))
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        for key in expected:
            assert_same(found[key], expected[key])
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype and found.shape == expected.shape
        np.testing.assert_array_equal(found, expected)
    else:
        assert found == expected


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_come_back(protocol, read):
    assert_same(read(pickle.dumps(values(), protocol)), values())


def test_the_pure_python_pickler_and_unpickler(read, monkeypatch):
    content = io.BytesIO()
    pickle._Pickler(content, 4).dump(values())
    assert_same(read(content.getvalue()), values())


def test_arrays_are_read_only_views(read):
    array = read(pickle.dumps({"w": np.ones((3, 4), np.float32)}))["w"]
    assert array.base is not None
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0] = 2.0


def test_what_is_shared_stays_shared(read):
    array = np.arange(3)
    found = read(pickle.dumps([array, array, {"again": array}]))
    assert found[0] is found[1] and found[2]["again"] is found[0]


def test_ordered_dict_becomes_dict(read):
    assert_same(
        read(pickle.dumps(collections.OrderedDict(b=1, a=np.ones(2)))), dict(b=1, a=np.ones(2))
    )


# --- Other packages' ways to pickle arrays and mappings, made with stand-ins of their classes ---


@pytest.mark.parametrize("protocol", [3, 4])
def test_haiku_mappings_become_dicts(protocol, read):
    weights = np.ones((2, 3), np.float32)
    content = dumps({"params": flat_mapping({"layer": flat_mapping({"w": weights})})}, protocol)
    assert_same(read(content), {"params": {"layer": {"w": weights}}})
    for name in ("FlatMap", "frozendict"):
        content = dumps(Named("haiku._src.data_structures", name, {"w": weights}), protocol)
        assert_same(read(content), {"w": weights})


@pytest.mark.parametrize("protocol", [3, 4])
def test_functions_named_as_dill_names_them(protocol, read):
    """Releases up to 0.3 write compiled functions as an import and an attribute."""
    content = dumps(values(), protocol, dill_names=True)
    assert b"_import_module" in content
    assert_same(read(content), values())


def test_arrays_of_dill_and_jax(read):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    reduced = array.__reduce__()
    for content in (
        dumps({"w": Named("dill._dill", "_create_array", *reduced, None)}),
        dumps({"w": Named("dill._dill", "_create_array", *reduced, {})}, dill_names=True),
        dumps({"w": Named("jax._src.array", "_reconstruct_array", *reduced, {"weak_type": False})}),
        dumps(
            {
                "w": Named(
                    "jax._src.device_array",
                    "reconstruct_device_array",
                    *reduced,
                    {"weak_type": True},
                )
            }
        ),
    ):
        assert_same(read(content), {"w": array})


def test_arrays_of_old_numpy(read):
    content = pickle.dumps({"w": np.arange(6.0)}, 2).replace(b"numpy._core", b"numpy.core")
    assert_same(read(content), {"w": np.arange(6.0)})


# --- What could run code ---


class Calls:
    def __init__(self, function, *arguments) -> None:
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


def marker(tmp_path) -> str:
    return str(tmp_path / "it_ran")


@pytest.mark.parametrize("protocol", [2, 4])
def test_functions_are_not_called(protocol, refused, tmp_path):
    path = marker(tmp_path)
    for function, arguments, name in (
        (os.system, (f"touch {path}",), f"{os.name}.system"),
        (eval, (f"open({path!r}, 'w')",), "(builtins|__builtin__).eval"),
        (exec, (f"open({path!r}, 'w')",), "(builtins|__builtin__).exec"),
        (open, (path, "w"), "(io|_io).open"),
        (getattr, ({}, "clear"), "(builtins|__builtin__).getattr"),
        (__import__, ("antigravity",), "(builtins|__builtin__).__import__"),
        (np.load, (path,), "numpy.load"),
        (np.fromfile, (path,), "numpy.*.fromfile"),
        (codecs.open, (path, "w"), "codecs.open"),
        (collections.defaultdict, (list,), "collections.defaultdict"),
        (bytearray, (10,), "(builtins|__builtin__).bytearray"),
    ):
        refused(pickle.dumps({"params": [Calls(function, *arguments)]}, protocol), name)


def test_functions_by_way_of_dill_are_not_called(refused, tmp_path):
    command = f"touch {marker(tmp_path)}"
    module = Named("dill._dill", "_import_module", "os")
    system = Named("dill._dill", "_get_attr", module, "system")
    refused(dumps({"params": system}), "asks for os.system")
    content = pickle.dumps(Calls(os.system, command), 4)
    refused(content, "asks for posix.system")
    for name in ("_load_type", "_create_function", "_create_code", "_eval_repr", "loads"):
        refused(dumps(Named("dill._dill", name, command)), f"asks for dill._dill.{name}")
    # Attributes of what is not a module, and the module itself.
    refused(dumps(Named("dill._dill", "_get_attr", {}, "clear")), "_Module belongs")
    refused(dumps(Named("dill._dill", "_get_attr", module, 3)), "str belongs")
    refused(dumps({"params": module}), "holds a os itself")
    refused(
        dumps(Named("dill._dill", "_get_attr", Named("dill._dill", "_import_module", []), "a")),
        "str",
    )


def test_every_way_to_run_a_function(refused):
    """All opcodes that look a name up or make an instance."""
    end = pickle.STOP
    for body in (
        b"cos\nsystem\n(S'true'\ntR",
        b"(cos\nsystem\nS'true'\no",
        b"(S'true'\nios\nsystem\n",
        b"\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R",
    ):
        refused(pickle.PROTO + b"\x04" + body + end, "asks for os.system")
    named = b"cnumpy\nndarray\n"
    refused(pickle.PROTO + b"\x04" + named + b")\x81" + end, "NEWOBJ")
    refused(pickle.PROTO + b"\x04" + named + b")}\x92" + end, "NEWOBJ_EX")
    refused(pickle.PROTO + b"\x04" + named + b")R" + end, "calls numpy.ndarray")
    refused(pickle.PROTO + b"\x04" + named + end, "holds a numpy.ndarray itself")
    refused(
        pickle.PROTO + b"\x04" + b"cnumpy\ndtype\n" + b"}S'name'\nI1\nsb" + end,
        "changes numpy.dtype",
    )
    refused(pickle.PROTO + b"\x04" + b"Pidentifier\n" + end, "persistent")
    refused(pickle.PROTO + b"\x04" + b"]}I1\nI2\nsb" + end, "not a readable pickle")


def test_the_extension_registry_is_not_asked(refused):
    copyreg.add_extension("collections", "OrderedDict", 241)
    try:
        content = pickle.dumps(collections.OrderedDict(a=1), 2)
        assert any(code.name == "EXT1" for code, *_ in pickletools.genops(content))
        refused(content, "extension registry")
    finally:
        copyreg.remove_extension("collections", "OrderedDict", 241)


def test_instances_are_refused(refused):
    refused(pickle.dumps({"x": {1, 2}}, 4), "holds a set itself")
    refused(pickle.dumps({"x": Local()}, 4), "asks for .*Local")
    refused(pickle.dumps({"x": Local()}, 2), "asks for (copyreg|copy_reg|.*Local)")
    refused(pickle.dumps({(1, 2): 3}), "keys that are no text or numbers")
    refused(pickle.dumps(range(3)), "range")


class Local:
    pass


# --- Arrays that are not what they say ---


def array_pickle(shape, dtype_state, data, code="f4", kind=("numpy", "ndarray")) -> bytes:
    """A pickle of one array from freely chosen parts."""
    dtype = Built(Named("numpy", "dtype", code, False, True), dtype_state)
    made = Named("numpy._core.multiarray", "_reconstruct", Name(*kind), (0,), b"b")
    return dumps_built({"w": Built(made, (1, shape, dtype, False, data))})


class Name:
    def __init__(self, module, name) -> None:
        self.parts = module, name


class Built:
    def __init__(self, value, state) -> None:
        self.parts = value, state


def dumps_built(value) -> bytes:
    class Pickler(pickle._Pickler):
        def save(self, item, save_persistent_id=True):
            if isinstance(item, Built):
                made, state = item.parts
                self.save(made)
                self.save(state)
                self.write(pickle.BUILD)
            elif isinstance(item, Name):
                self.write(pickle.GLOBAL + "{}\n{}\n".format(*item.parts).encode())
            elif isinstance(item, Named):
                module, name, arguments = item.parts
                self.save(Name(module, name))
                self.save(arguments)
                self.write(pickle.REDUCE)
            else:
                super().save(item, save_persistent_id)

    content = io.BytesIO()
    Pickler(content, 4).dump(value)
    return content.getvalue()


PLAIN = (3, "<", None, None, None, -1, -1, 0)


def test_arrays_made_by_hand(read, refused):
    found = read(array_pickle((2, 1), PLAIN, struct.pack("<2f", 1.5, -2.0)))
    np.testing.assert_array_equal(found["w"], [[1.5], [-2.0]])
    bad = "array of shape"
    refused(array_pickle((10**9, 10**9), PLAIN, b"\0" * 8), bad)
    refused(array_pickle((2**60, 2**60, 2**60, 0), PLAIN, b""), bad)
    refused(array_pickle((3,), PLAIN, b"\0" * 8), bad)
    refused(array_pickle((-2,), PLAIN, b"\0" * 8), bad)
    refused(array_pickle((2.0,), PLAIN, b"\0" * 8), bad)
    refused(array_pickle([2], PLAIN, b"\0" * 8), bad)
    refused(array_pickle((1,) * 100, PLAIN, b"\0" * 4), bad)
    refused(array_pickle((2,), PLAIN, 12345678), "data of an array is a int")
    refused(array_pickle((2,), PLAIN, "1234567\u20ac"), "latin-1")
    refused(array_pickle((2,), PLAIN, [1, 2]), "array of objects")
    refused(array_pickle((2,), PLAIN, b"\0" * 8, kind=("numpy", "matrix")), "numpy.matrix")
    refused(array_pickle((2,), PLAIN, b"\0" * 8, kind=("numpy", "dtype")), "another class")


def test_arrays_of_other_things_than_numbers(refused):
    refused(pickle.dumps({"w": np.array([{}, None], object)}), "dtype 'O8'")
    refused(pickle.dumps({"w": np.array(["text"])}), "dtype 'U4'")
    refused(pickle.dumps({"w": np.zeros(2, [("a", "f4"), ("b", object)])}), "dtype 'V12'")
    refused(pickle.dumps({"w": np.array(["2020-01-01"], "M8[D]")}), "dtype 'M8'")
    refused(pickle.dumps({"w": np.ma.masked_array([1.0])}), "numpy.ma")
    # Bytes that would be read as pointers.
    objects = (3, "|", None, ("a",), {"a": (Named("numpy", "dtype", "i8"), 0)}, 8, 1, 0)
    refused(array_pickle((1,), objects, b"\x41" * 8, code="V8"), "dtype 'V8'")
    refused(array_pickle((1,), objects, b"\x41" * 8, code="i8"), "records")
    refused(array_pickle((1,), PLAIN, b"\x41" * 8, code="O8"), "dtype 'O8'")
    refused(array_pickle((1,), (3, "?", None, None, None, -1, -1, 0), b"\0" * 4), "records")


def test_memory_is_not_wasted(refused):
    """A few bytes do not ask for gigabytes."""
    start, end = pickle.PROTO + b"\x04", pickle.STOP
    table = start + b"N" + pickle.LONG_BINPUT + struct.pack("<I", 2**31) + end
    refused(table, "asks for a table of 2147483648 objects")
    refused(start + b"Np2147483648\n" + end, "asks for a table of 2147483648 objects")
    refused(
        start + pickle.BINBYTES8 + struct.pack("<Q", 2**40) + b"abc" + end, "cut off or damaged"
    )
    refused(start + pickle.BINUNICODE8 + struct.pack("<Q", 2**63) + end, "cut off or damaged")
    # The same text as bytes, again and again.
    encoded = b"c_codecs\nencode\n\x94h\x00h\x01\x86R0"
    many = (
        start + b"\x8c\xff" + b"x" * 255 + b"\x940\x8c\x06latin1\x940"
        + encoded + 1000 * b"h\x02h\x00h\x01\x86R0" + b"N" + end
    )  # fmt: skip
    refused(many, "more bytes than the file holds")


def test_nesting(read, refused):
    bottom: list = []
    for _ in range(20):
        bottom = [bottom, bottom]
    found = read(pickle.dumps(bottom))
    assert found[0] is found[1]
    for _ in range(20):
        bottom = [bottom]
    refused(pickle.dumps(bottom), "more than 32 deep")
    own: list = []
    own.append(own)
    refused(pickle.dumps(own), "more than 32 deep")
    refused(pickle.PROTO + b"\x04" + b"]" * 20_000 + b"a" * 19_999 + pickle.STOP, "deep")


def test_what_is_shared_many_times_is_never_spelt_out(refused):
    """Hashing such a tuple, or printing it, would go over all of its 2 ** 60 leaves."""
    shared: tuple = ()
    for _ in range(60):
        shared = (shared, shared)
    state = (3, "<", None, None, None, -1, -1, 0)
    refused(array_pickle(shared, state, b""), "shape a tuple")
    refused(array_pickle((0,), state, b"", code=shared), "dtype a tuple")
    refused(array_pickle((0,), (3, shared, *state[2:]), b""), "records or sub-arrays")
    refused(dumps(Named("_codecs", "encode", "x", shared)), "text encoding a tuple")
    refused(dumps(Named("dill._dill", "_import_module", shared)), "str belongs")
    wrapped = Named("jax._src.array", "_reconstruct_array", None, (), (), [shared])
    refused(dumps(wrapped), "in an unknown way")


# --- Files that are no pickles ---


def test_other_files(refused, tmp_path):
    content = pickle.dumps(values(), 4)
    for length in range(2, len(content), 7):
        refused(content[:length], "cut off or damaged")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("data.pkl", content)
    refused(archive.getvalue(), "zip archive")
    refused(b"\x1f\x8b\x08" + content, "gzip")
    refused(b"<!DOCTYPE html><title>404", "web page")
    refused(b"\x93NUMPY\x01\x00", ".npy")
    refused(b"", "begins with the bytes b''")
    refused(b"word 0.5 0.25\n", "begins with the bytes b'word'")
    refused(b"\x80\x09" + content[2:], "begins with the bytes")
    for path in (tmp_path / "none.pkl", tmp_path):
        with pytest.raises(UserError, match="cannot be read"):
            load(path)


def test_is_pickle(tmp_path):
    path = tmp_path / "file"
    for content, expected in (
        (pickle.dumps([1], 2), True),
        (pickle.dumps([1], 5), True),
        (pickle.dumps([1], 0), False),
        (b"\x80", False),
        (b"PK\x03\x04", False),
    ):
        path.write_bytes(content)
        assert is_pickle(path) is expected
    assert not is_pickle(tmp_path) and not is_pickle(tmp_path / "none")


def test_random_damage_is_an_error_or_harmless(read, tmp_path):
    """Bytes changed anywhere: the file is refused or gives plain values."""
    content = dumps(
        {"params": flat_mapping({"layer": flat_mapping({"w": np.ones((2, 3), np.float32)})})},
        4,
        True,
    )
    random = np.random.default_rng(0)
    imported = set(sys.modules)
    for _ in range(1000):
        changed = bytearray(content)
        for position in random.integers(0, len(content), random.integers(1, 4)):
            changed[position] = random.integers(0, 256)
        try:
            restricted_pickle._plain(read(bytes(changed)), 0, {})
        except UserError:
            pass
    new = set(sys.modules) - imported
    assert not [name for name in new if not name.startswith("encodings.")]
    assert os.listdir(tmp_path) == ["weights.pkl"]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol(read, protocol):
    content = {"a": np.arange(3), "b": [1.5, "x"], "c": np.float32(2), "d": np.ones((2, 2), ">f4")}
    found = read(pickle.dumps(content, protocol=protocol))
    assert found["b"] == [1.5, "x"] and found["c"] == 2
    np.testing.assert_array_equal(found["a"], content["a"])
    np.testing.assert_array_equal(found["d"], content["d"])


def test_python_2_wrote_bytes_as_text(read):
    """The data of an array as a SHORT_BINSTRING, which Python 2 had in place of bytes."""
    values = np.array([1.0, -2.5, 255.0], "<f4")
    data = values.tobytes()
    content = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x03\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R"
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U"
        + bytes([len(data)]) + data + b"tb."
    )  # fmt: skip
    np.testing.assert_array_equal(read(content), values)
