"""Malformed requests, each with its expected status codes.

A kind takes a good request and breaks one thing. Request number ``i`` of a seed is always the same
one, so that a single request can be sent again.
"""

from __future__ import annotations

import dataclasses
import io
import json
import string
import wave
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

import grpc
import numpy as np
import tensorflow as tf
from PIL import Image
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import predict_pb2

from vatt_tf.errors import UserError
from vatt_tf.serving.conformance.cases.connection import Server, predict_request

CODE = grpc.StatusCode
Request: TypeAlias = predict_pb2.PredictRequest
INVALID = frozenset({CODE.INVALID_ARGUMENT})
NOT_FOUND = frozenset({CODE.NOT_FOUND})
ENCODED = "encoded"
# A tensor of a wrong type, as large as a clip that a client forgot to convert (bytes).
LARGE = 16 * 1024 * 1024

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Target:
    """A signature of an exported model with a good request.

    Attributes:
        model: "video", "audio" or "text".
        signature: "serving_default" or "encoded".
        alias: Name of its only input.
        value: A good input with one row.
    """

    model: str
    signature: str
    alias: str
    value: np.ndarray

    def request(self, value: np.ndarray | None = None) -> Request:
        """A request with the good input or another one."""
        inputs = {self.alias: self.value if value is None else value}
        return predict_request(self.model, inputs, signature=self.signature)


Break = Callable[[np.random.Generator, Target], Request | bytes]


@dataclasses.dataclass(frozen=True)
class Kind:
    """Kind of malformed request.

    Attributes:
        name: Name in the report.
        codes: Expected codes.
        make: Breaks the good request of a target; bytes are sent as they are.
        fits: Whether the kind makes sense for a target.
        timeout: Deadline in seconds, None for the usual one.
    """

    name: str
    codes: frozenset[grpc.StatusCode]
    make: Break
    fits: Callable[[Target], bool]
    timeout: float | None = None


KINDS: list[Kind] = []


def _kind(
    codes: frozenset[grpc.StatusCode],
    fits: Callable[[Target], bool] = lambda target: True,
    timeout: float | None = None,
) -> Callable[[Break], Break]:
    def register(make: Break) -> Break:
        KINDS.append(Kind(make.__name__.strip("_"), codes, make, fits, timeout))
        return make

    return register


def malformed(seed: int, index: int, targets: list[Target]) -> tuple[Kind, Target, bytes]:
    """Returns request ``index`` of a seed: its kind, its target and its bytes."""
    rng = np.random.default_rng([seed, index])
    target = _pick(rng, targets)
    kind = _pick(rng, [kind for kind in KINDS if kind.fits(target)])
    made = kind.make(rng, target)
    return (
        kind,
        target,
        made if isinstance(made, bytes) else made.SerializeToString(deterministic=True),
    )


def find_targets(server: Server, models: list[str]) -> list[Target]:
    """Finds the signatures of the served models.

    Args:
        server: A server with exported models.
        models: Some of "video", "audio", "text".

    Returns:
        A target for each signature.

    Raises:
        UserError: If a model is not served or is no exported model.
    """
    rng = np.random.default_rng(0)
    targets = []
    for model in models:
        query = {"query": [b""]}
        reply = server.predict(predict_request(model, query, signature="describe"))
        if reply.response is None:
            raise UserError(
                f"--models: {model} of {server.target} does not describe itself "
                f"({reply.code.name}: {reply.message}); serve what vatt_tf.export has written"
            )
        description = json.loads(reply.response.outputs["description"].string_val[0])
        targets += _good_requests(model, description["clip"], rng)
    return targets


def _good_requests(model: str, clip: dict[str, Any], rng: np.random.Generator) -> list[Target]:
    if model == "text":
        text = np.array([b"a red circle moves left"], object)
        return [Target(model, "serving_default", "text", text)]
    if model == "audio":
        sound = rng.uniform(-0.5, 0.5, [1, clip["samples"]]).astype(np.float32)
        encoded = np.array([_wav(sound[0], clip["sample_rate"])], object)
        return [
            Target(model, "serving_default", "waveform", sound),
            Target(model, ENCODED, "audio_bytes", encoded),
        ]
    shape = (1, clip["frames"], clip["height"], clip["width"], 3)
    frames = rng.integers(0, 256, shape, np.uint8)
    jpegs = np.array([[_jpeg(frame) for frame in frames[0]]], object)
    return [
        Target(model, "serving_default", "frames", frames),
        Target(model, ENCODED, "frames_bytes", jpegs),
    ]


def _jpeg(frame: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG")
    return buffer.getvalue()


def _wav(sound: np.ndarray, sample_rate: int) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes((sound * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def _is_encoded(target: Target) -> bool:
    return target.signature == ENCODED


def _is_text(target: Target) -> bool:
    return target.model == "text"


def _is_waveform(target: Target) -> bool:
    return target.alias == "waveform"


def _is_numeric(target: Target) -> bool:
    return target.value.dtype != object


def _pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    return options[int(rng.integers(len(options)))]


def _word(rng: np.random.Generator, length: int) -> str:
    return "".join(rng.choice(list(string.ascii_lowercase), length))


# --- Wrong addresses ------------------------------------------------------------------------------


@_kind(INVALID)
def _no_model_spec(rng: np.random.Generator, target: Target) -> Request:
    request = target.request()
    request.ClearField("model_spec")
    return request


@_kind(NOT_FOUND)
def _unknown_model(rng: np.random.Generator, target: Target) -> Request:
    request = target.request()
    request.model_spec.name = _pick(rng, ["../", "ünknown ", "\n", "%s%n", ""]) + _word(rng, 12)
    return request


@_kind(NOT_FOUND)
def _huge_model_name(rng: np.random.Generator, target: Target) -> Request:
    request = target.request()
    request.model_spec.name = "m" * int(rng.integers(10_000, 1_000_000))
    return request


@_kind(NOT_FOUND)
def _unknown_version(rng: np.random.Generator, target: Target) -> Request:
    request = target.request()
    # Never 1, 2, ...: 0, negative or beyond any counter and any date.
    versions = [0, -1, -(2**63), 2**63 - 1, int(rng.integers(2**50, 2**62))]
    request.model_spec.version.value = _pick(rng, versions)
    return request


@_kind(INVALID)
def _unknown_label(rng: np.random.Generator, target: Target) -> Request:
    request = target.request()
    request.model_spec.version_label = _word(rng, 12)
    return request


@_kind(frozenset({CODE.FAILED_PRECONDITION}))
def _unknown_signature(rng: np.random.Generator, target: Target) -> Request:
    request = target.request()
    request.model_spec.signature_name = _word(rng, 12)
    return request


# --- Wrong names ----------------------------------------------------------------------------------


@_kind(INVALID)
def _no_input(rng: np.random.Generator, target: Target) -> Request:
    request = target.request()
    request.ClearField("inputs")
    return request


@_kind(INVALID)
def _wrong_input_name(rng: np.random.Generator, target: Target) -> Request:
    request = target.request()
    names = [target.alias + ":0", target.alias.upper(), "", _word(rng, 12), "x" * 100_000]
    request.inputs[_pick(rng, names)].CopyFrom(request.inputs[target.alias])
    del request.inputs[target.alias]
    return request


@_kind(INVALID)
def _extra_input(rng: np.random.Generator, target: Target) -> Request:
    request = target.request()
    for _ in range(int(rng.integers(1, 200))):
        request.inputs[_word(rng, 12)].CopyFrom(tf.make_tensor_proto([1.0]))
    return request


@_kind(INVALID)
def _unknown_output(rng: np.random.Generator, target: Target) -> Request:
    request = target.request()
    request.output_filter.append(_word(rng, 12))
    return request


# --- Wrong tensors --------------------------------------------------------------------------------


@_kind(INVALID)
def _wrong_dtype(rng: np.random.Generator, target: Target) -> Request:
    dtypes = [np.float64, np.float16, np.int32, np.int64, np.int8, np.bool_, np.complex64, object]
    # "frames" is uint8 and "waveform" float32: neither is in the list.
    allowed = [dtype for dtype in dtypes if np.dtype(dtype) != target.value.dtype]
    dtype = _pick(rng, allowed)
    shape = target.value.shape if _is_encoded(target) or _is_text(target) else (1, 2)
    value = np.full(shape, b"1", object) if dtype is object else np.ones(shape, dtype)
    return target.request(value)


@_kind(INVALID)
def _large_wrong_dtype(rng: np.random.Generator, target: Target) -> Request:
    return target.request(np.zeros([1, LARGE // 8], np.float64))


@_kind(INVALID)
def _unknown_dtype(rng: np.random.Generator, target: Target) -> Request:
    request = target.request()
    dtypes = [types_pb2.DT_INVALID, 77, 2**31 - 1, types_pb2.DT_FLOAT_REF]
    request.inputs[target.alias].dtype = _pick(rng, dtypes)
    return request


@_kind(INVALID)
def _wrong_rank(rng: np.random.Generator, target: Target) -> Request:
    value = target.value
    smaller = value.ravel()[0] if value.ndim == 1 else value[0]
    larger = value[np.newaxis, ..., np.newaxis]
    return target.request(np.asarray(smaller if rng.integers(2) else larger))


@_kind(INVALID, _is_numeric)
def _wrong_size(rng: np.random.Generator, target: Target) -> Request:
    if target.alias == "waveform":
        return target.request(target.value[:, :0])
    frames = target.value
    wrong = [
        frames[..., :1],
        np.concatenate([frames, frames[..., :1]], axis=-1),
        frames[:, :0],
        frames[:, :, :0],
        frames[:, :, :, :1],
        # A long film in tiny frames and a poster of one frame.
        np.zeros([1, 1_000_000, 1, 1, 3], np.uint8),
        np.zeros([1, 1, 4_000, 1, 3], np.uint8),
    ]
    return target.request(_pick(rng, wrong))


# With batching, TensorFlow Serving leaves an empty batch waiting until the deadline.
@_kind(INVALID | {CODE.DEADLINE_EXCEEDED}, timeout=1.0)
def _empty_batch(rng: np.random.Generator, target: Target) -> Request:
    return target.request(target.value[:0])


@_kind(INVALID)
def _lying_shape(rng: np.random.Generator, target: Target) -> Request:
    request = target.request()
    tensor = request.inputs[target.alias]
    dims = [
        [1, 1_000_000, 1_000_000, 3],
        [2**40, 2**40],
        [2**62, 2],
        [-1],
        [1, -5],
        [1] * 300,
        [2**31, 2**31, 2**31],
    ]
    del tensor.tensor_shape.dim[:]
    for size in _pick(rng, dims):
        tensor.tensor_shape.dim.add(size=size)
    return request


@_kind(INVALID)
def _unknown_rank(rng: np.random.Generator, target: Target) -> Request:
    request = target.request()
    shape = request.inputs[target.alias].tensor_shape
    shape.unknown_rank = True
    del shape.dim[:]
    return request


@_kind(INVALID, _is_numeric)
def _cut_content(rng: np.random.Generator, target: Target) -> Request:
    request = target.request()
    tensor = request.inputs[target.alias]
    size = len(tensor.tensor_content)
    tensor.tensor_content = tensor.tensor_content[: int(rng.integers(1, size))]
    return request


@_kind(INVALID, _is_waveform)
def _not_finite(rng: np.random.Generator, target: Target) -> Request:
    value = target.value.copy()
    value[0, rng.integers(value.shape[1])] = _pick(rng, [np.nan, np.inf, -np.inf])
    return target.request(value)


# --- Wrong content --------------------------------------------------------------------------------


def _with_content(target: Target, rng: np.random.Generator, content: bytes) -> Request:
    """A good request with one image or sound replaced."""
    value = target.value.copy()
    value.flat[rng.integers(value.size)] = content
    return target.request(value)


@_kind(INVALID, _is_encoded)
def _truncated_media(rng: np.random.Generator, target: Target) -> Request:
    content = target.value.flat[0]
    return _with_content(target, rng, content[: int(rng.integers(len(content) * 9 // 10))])


@_kind(INVALID, _is_encoded)
def _no_media(rng: np.random.Generator, target: Target) -> Request:
    return _with_content(target, rng, rng.bytes(int(rng.integers(0, 100_000))))


@_kind(INVALID, _is_encoded)
def _other_media(rng: np.random.Generator, target: Target) -> Request:
    png = io.BytesIO()
    Image.new("RGB", (8, 8)).save(png, "PNG")
    return _with_content(target, rng, _pick(rng, [png.getvalue(), b"<svg/>", b"%PDF-1.7"]))


@_kind(INVALID, _is_encoded)
def _lying_header(rng: np.random.Generator, target: Target) -> Request:
    content = bytearray(target.value.flat[0])
    if target.alias == "audio_bytes":
        # RIFF: no channels, no PCM, a rate of 1 Hz, or more data than there is.
        lies = [(22, 2, 0), (20, 2, 99), (24, 4, 1), (40, 4, 2**31 - 2)]
        place, width, value = _pick(rng, lies)
        content[place : place + width] = value.to_bytes(width, "little")
    else:
        # Height and width of the frame in the segment SOF0.
        place = content.index(b"\xff\xc0") + 5
        content[place : place + 4] = b"\xff\xdc\xff\xdc"
    return _with_content(target, rng, bytes(content))


# Any bytes are a string for a graph: the tokenizer may read what is no UTF-8 or refuse it.
@_kind(INVALID | {CODE.OK}, _is_text)
def _invalid_utf8(rng: np.random.Generator, target: Target) -> Request:
    broken = [b"\xff\xfe", b"\xc0\xaf", b"caf\xe9", b"\xed\xa0\x80", b"\0", rng.bytes(2_000)]
    return target.request(np.array([_pick(rng, broken)], object))


# --- Wrong messages -------------------------------------------------------------------------------


@_kind(frozenset({CODE.INTERNAL}))
def _broken_message(rng: np.random.Generator, target: Target) -> bytes:
    # Field 1 announces 100 bytes and none follow.
    return target.request().SerializeToString() + b"\x0a\x64"


@_kind(frozenset({CODE.INTERNAL}))
def _name_is_no_text(rng: np.random.Generator, target: Target) -> bytes:
    # model_spec { name: "\xff\xfe" }: strings of proto3 are UTF-8.
    return b"\x0a\x04\x0a\x02\xff\xfe"
