"""Parity check: compares a written SavedModel with the trained model before it is published.

The inputs of the reference do not come from the export's graph: frames are prepared clip by clip
with the functions of the evaluation, audio is the samples behind the WAV, and other clip sizes use
position tables interpolated in NumPy.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import wave
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import tensorflow as tf

from vatt_tf import paths
from vatt_tf.data.input import audio_ops, video_ops
from vatt_tf.data.schema import ClipSpec
from vatt_tf.data.text.known_words import VOCABULARY
from vatt_tf.errors import UserError
from vatt_tf.export import examples
from vatt_tf.export.inputs import DEFAULT
from vatt_tf.export.servables import DESCRIBE, Servable

# Largest difference of an embedding (length 1) or a probability; of features and logits relative
# to the largest of them.
TOLERANCE = 1e-5
# The same of a network that is called operation by operation, if it is within TOLERANCE as a
# graph. Graphs round in another order, and gates and BatchNorm can magnify that on clips unlike
# those that they were trained with: of nine S3D-G one by 3e-5 and one by 6e-5, 1.7e-4 on clips of
# another size (its features grow to 1,200; either way it is 2e-5 to 4e-5 from float64).
ROUNDING = 1e-3
ROWS = 2
_TEXT = np.array([*examples.captions(ROWS), b"", "\u00a7 \u72ac".encode()], object)

Arrays = dict[str, np.ndarray]


def check(servable: Servable, folder: str | os.PathLike) -> float:
    """Runs every signature of a written model on small inputs.

    Args:
        servable: The model that was written.
        folder: Folder of its SavedModel.

    Returns:
        The largest difference found.

    Raises:
        UserError: If it is more than ``TOLERANCE`` (from the trained model as a graph; from the
            model called eagerly ``ROUNDING``), or a signature does not run.
    """
    cases = list(_cases(servable))
    with _loaded(folder) as run:
        answers = run(DESCRIBE, {"query": np.array([b"", b"?"], object)})["description"]
        if [json.loads(answer) for answer in answers] != [servable.description] * 2:
            raise UserError(f"the written {servable.name} model does not describe itself")
        if servable.counts_tokens:
            counts = run(VOCABULARY, {"text": _TEXT})
        found = [run(signature, sent) for signature, sent, _ in cases]
    if servable.counts_tokens:
        expected = _as_arrays(servable.tokenizer.count_tokens(tf.constant(_TEXT)))
        if any(not np.array_equal(counts[name], value) for name, value in expected.items()):
            raise UserError(
                f"the written {servable.name} model counts other tokens than the trained one: "
                "nothing was exported"
            )
    return max(
        _largest_difference(servable, signature, read, outputs)
        for (signature, _, read), outputs in zip(cases, found, strict=True)
    )


def _largest_difference(servable: Servable, signature: str, read: Arrays, found: Arrays) -> float:
    """Largest difference of the outputs of a signature; raises the errors of :func:`check`."""
    inputs = tf.nest.map_structure(tf.constant, read)
    expected = _as_arrays(servable.forward(inputs))
    if set(found) != set(expected):
        raise UserError(
            f"the written {servable.name} model has the outputs {', '.join(sorted(found))} "
            f"in {signature}, expected {', '.join(sorted(expected))}"
        )
    name, error = _worst(expected, found)
    if TOLERANCE < error <= ROUNDING:
        forward = tf.function(servable.forward, autograph=False)
        name, error = _worst(_as_arrays(forward(inputs)), found)
    # Written so that NaN fails too.
    if not error <= TOLERANCE:
        raise UserError(
            f"the written {servable.name} model differs from the trained one by {error:.2g} in "
            f"{signature}, output {name} (at most {TOLERANCE:g} is allowed): nothing was exported"
        )
    return error


def _worst(expected: Arrays, found: Arrays) -> tuple[str, float]:
    """Returns the output that differs most, and the difference."""
    names = sorted(expected)
    errors = [_difference(name, expected[name], found[name]) for name in names]
    worst = int(np.argmax(errors))  # NaN counts as the largest.
    return names[worst], errors[worst]


@contextlib.contextmanager
def _loaded(folder: str | os.PathLike) -> Iterator[Callable[..., dict[str, np.ndarray]]]:
    """Runs signatures in a session, as TensorFlow Serving does.

    A session has its own resources, apart from those of the process, which may have equal names.
    """
    level = tf.get_logger().level
    tf.get_logger().setLevel("ERROR")  # Hides the deprecation warning of the loader.
    try:
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            with paths.readable_by_tensorflow(folder) as readable:
                meta = tf.compat.v1.saved_model.load(session, ["serve"], readable)

            def run(signature: str, sent: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
                tensors = meta.signature_def[signature]
                feed = {tensors.inputs[name].name: value for name, value in sent.items()}
                return session.run({key: t.name for key, t in tensors.outputs.items()}, feed)

            yield run
    finally:
        tf.get_logger().setLevel(level)


def _as_arrays(tensors: Mapping[str, tf.Tensor]) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in tensors.items()}


def _difference(name: str, expected: np.ndarray, found: np.ndarray) -> float:
    if expected.shape != found.shape:
        return math.inf
    unit = 1.0 if name not in ("features", "logits") else max(1.0, float(np.abs(expected).max()))
    return float(np.abs(expected - found).max()) / unit


def _cases(servable: Servable) -> Iterator[tuple[str, Arrays, Arrays]]:
    """Yields signature, its inputs by name, and the trained model's inputs by modality."""
    for signature, parts in servable.signatures.items():
        sent = {
            modality: examples.request(part.input.name, servable.clip, ROWS)
            for modality, part in parts.items()
        }
        yield _case(servable, signature, sent)
        if signature == DEFAULT and servable.any_size:
            other = {
                modality: _example_of_other_size(servable.clip, modality)
                for modality in servable.any_size
            }
            rows = {modality: value[:1] for modality, value in sent.items()}
            yield _case(servable, signature, {**rows, **other})


def _case(servable: Servable, signature: str, sent: Arrays) -> tuple[str, Arrays, Arrays]:
    names = {modality: servable.signatures[signature][modality].input.name for modality in sent}
    return (
        signature,
        {names[modality]: value for modality, value in sent.items()},
        {modality: _read(servable, names[modality], value) for modality, value in sent.items()},
    )


def _example_of_other_size(clip: ClipSpec, modality: str) -> np.ndarray:
    """Example longer than the training clips, frames also wider: one row."""
    if modality == "video":
        return examples.frames(1, (clip.frames + clip.frames // 2, clip.height, 2 * clip.width))
    return examples.sound(1, clip.samples + clip.samples // 2)


def _read(servable: Servable, name: str, sent: np.ndarray) -> np.ndarray:
    clip = servable.clip
    if name == "text":
        return servable.tokenizer(sent).numpy()
    if name == "frames":
        return sent
    if name == "frames_bytes":
        return np.stack([_evaluation_frames(row, clip) for row in sent])
    waveform = sent
    if name == "audio_bytes":
        waveform = np.stack([_clip_sound(row, clip) for row in sent])
    waveform = np.stack([audio_ops.audio_frontend(row, clip) for row in waveform])
    return waveform[..., np.newaxis]


def _evaluation_frames(encoded: np.ndarray, clip: ClipSpec) -> np.ndarray:
    target = (clip.height, clip.width)
    size = video_ops.frame_size(encoded[0])
    box = video_ops.fitting_box(size, target)
    return video_ops.decode_clip(tf.constant(encoded), size, box, target).numpy()


def _clip_sound(encoded: bytes, clip: ClipSpec) -> np.ndarray:
    with wave.open(io.BytesIO(encoded)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        stereo = samples.reshape(-1, file.getnchannels()).astype(np.float32) / 32768.0
    mono = stereo.mean(axis=1)
    return mono[np.arange(clip.samples) % len(mono)]
