"""A gRPC server that answers like exported models, for tests of the client (no TensorFlow ops)."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
from collections.abc import Iterator

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from tests.data.records import SPEC

OUTPUTS = {
    "video": {
        "embedding_va": {"space": "va", "dim": 3, "partners": ["audio"]},
        "embedding_vt": {"space": "vt", "dim": 4, "partners": ["text"]},
    },
    "audio": {"embedding": {"space": "va", "dim": 3, "partners": ["video"]}},
    "text": {"embedding": {"space": "vt", "dim": 4, "partners": ["video"]}},
    "classifier": {},
}


def unit(values) -> np.ndarray:
    values = np.asarray(values, np.float32)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def video_features(frames: np.ndarray) -> np.ndarray:
    """[b, 4]: brightness of the first and last frame, of the left half, and one."""
    pixels = frames.astype(np.float32) / 255
    first, last = pixels[:, 0].mean((1, 2, 3)), pixels[:, -1].mean((1, 2, 3))
    left = pixels[:, :, :, : pixels.shape[3] // 2].mean((1, 2, 3, 4))
    return np.stack([first, last, left, np.ones_like(first)], axis=-1)


def audio_features(samples: np.ndarray) -> np.ndarray:
    """[b, 3]: mean, loudness, one."""
    return np.stack([samples.mean(1), samples.std(1), np.ones(len(samples))], axis=-1)


def text_features(strings: np.ndarray) -> np.ndarray:
    """[b, 4]: brightness that the words ask for."""
    want = [float(b"bright" in s) + len(s) / 1000 for s in strings]
    return np.stack([want, want, want, np.ones(len(want))], axis=-1)


@dataclasses.dataclass
class FakeServer(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Set ``failures`` to the (code, details) of the next replies, or change ``version``."""

    port: int = 0
    version: int = 1
    models: tuple[str, ...] = ("video", "audio", "text", "classifier")
    max_rows: int = 1000
    model_hash: str = "aa" * 32
    hashes: dict = dataclasses.field(default_factory=dict)  # of models that have another one
    classifier_modality: str = "video"
    content: bool = False  # tensor_content instead of typed fields
    classes: int = 2
    calibration: dict | None = None  # of cosines, as an export carries it
    clip: dict = dataclasses.field(default_factory=lambda: dataclasses.asdict(SPEC))
    vocabulary: tuple[str, ...] | None = None  # None: exported before it was a signature
    failures: list = dataclasses.field(default_factory=list)
    seen: list = dataclasses.field(default_factory=list)
    on_predict = None

    def Predict(self, request, context):  # noqa: N802
        spec = request.model_spec
        if self.failures:
            context.abort(*self.failures.pop(0))
        if spec.name not in self.models:
            context.abort(
                grpc.StatusCode.NOT_FOUND,
                f"Servable not found for request: Latest({spec.name})",
            )
        inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
        rows = len(next(iter(inputs.values())))
        self.seen.append((spec.name, spec.signature_name, rows))
        if spec.signature_name == "describe":
            outputs = {"description": np.array([self._describe(spec.name)], object)}
        elif spec.signature_name == "vocabulary" and self.vocabulary is None:
            context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                'Serving signature key "vocabulary" not found.',
            )
        else:
            if rows > self.max_rows:
                context.abort(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    f"Task size {rows} is larger than maximum input batch size {self.max_rows}",
                )
            if spec.signature_name == "vocabulary":
                outputs = self._count_tokens(inputs["text"])
            else:
                outputs = self._run(spec.name, inputs)
            if self.on_predict is not None:
                self.on_predict()
        response = predict_pb2.PredictResponse()
        response.model_spec.name = spec.name
        response.model_spec.version.value = self.version
        for name, value in outputs.items():
            if self.content or value.dtype != np.float32:
                response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
            else:
                proto = response.outputs[name]
                proto.dtype = 1
                for size in value.shape:
                    proto.tensor_shape.dim.add(size=size)
                proto.float_val.extend(value.ravel().tolist())
        return response

    def _describe(self, name: str) -> bytes:
        more: dict = {"labels": ["dark", "bright"]} if name == "classifier" else {}
        if self.calibration is not None:
            more["score_calibration"] = self.calibration
        modality = self.classifier_modality if name == "classifier" else name
        return json.dumps(
            {
                "modality": modality,
                "clip": self.clip,
                "outputs": OUTPUTS[name],
                "model_hash": self.hashes.get(name, self.model_hash),
                "vatt_tf": "0",
                **more,
            }
        ).encode()

    def _count_tokens(self, strings: np.ndarray) -> dict[str, np.ndarray]:
        words = [string.decode().strip(",.!?-").lower() for string in strings]
        return {
            "tokens": np.array([bool(word) for word in words], np.int32),
            "unknown": np.array([word not in self.vocabulary for word in words], np.int32),
        }

    def _run(self, name: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if name == "video":
            values = video_features(inputs["frames"])
            return {"embedding_vt": unit(values), "embedding_va": unit(values[:, 1:])}
        if name == "audio":
            return {"embedding": unit(audio_features(inputs["waveform"]))}
        if name == "text":
            return {"embedding": unit(text_features(inputs["text"]))}
        values = next(iter(inputs.values())).astype(np.float32).reshape(rows_of(inputs), -1).mean(1)
        logits = np.stack([-values, values], axis=-1).astype(np.float32)
        logits = np.pad(logits, ((0, 0), (0, self.classes - 2)), constant_values=-1e3)
        odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return {"logits": logits, "probabilities": odds / odds.sum(axis=-1, keepdims=True)}


def rows_of(inputs: dict[str, np.ndarray]) -> int:
    return len(next(iter(inputs.values())))


def serve() -> Iterator[FakeServer]:
    """For a fixture: a running server that is stopped afterwards."""
    fake = FakeServer()
    server = grpc.server(
        concurrent.futures.ThreadPoolExecutor(4),
        options=[("grpc.max_receive_message_length", -1)],
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(fake, server)
    fake.port = server.add_insecure_port("localhost:0")
    server.start()
    yield fake
    server.stop(None)
