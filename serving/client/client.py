"""Client of a server that has exported models: this package's or TensorFlow Serving.

From Python::

    with Client("localhost:8500") as client:
        clips = client.embed_video(["a.mp4", "b.mp4"])  # [2, d], in the space shared with text
        query = client.embed_text("a red circle moves left")  # [d]

From the shell::

    python -m vatt_tf.serving.client text "a red circle moves left"
    python -m vatt_tf.serving.client classify clip.mp4 --server=host:8500

Neither TensorFlow nor the model's code is loaded. Files are decoded here, and only windows of the
clip length that the served model asks for are sent.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc
import grpc.aio
import numpy as np

from vatt_tf.data.media.windows import Inputs, PathLike, Span
from vatt_tf.data.schema import ClipSpec
from vatt_tf.embedder import Embedder, Embeddings, Result, dimensions_of
from vatt_tf.errors import UserError
from vatt_tf.serving.client.address import answers_http, check_target, is_http_error
from vatt_tf.serving.client.calls import (
    Calls,
    Classification,
    Description,
    RequestError,
    Steps,
    T,
    advance,
)
from vatt_tf.serving.client.protocol import PREDICT, Reply, Request

DEFAULT_TARGET = "localhost:8500"
# Largest request: servers take up to 2 GiB, proxies may not.
MAX_MESSAGE_BYTES = 64 * 2**20
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 3.0  # seconds between attempts, doubled each time
BUSY_ATTEMPTS = 4  # as many more where a server is there, but has no thread free

_CHANNEL_OPTIONS = [
    # A reply of a large batch exceeds gRPC's default of 4 MiB.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # Reconnects quickly after a restart of the server.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2000),
]


class _Base(Embedder[Result]):
    """Settings, and the steps of the calls, that both clients share."""

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        timeout: float = 60.0,
        retries: int = 5,
        batch_size: int = 8,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        credentials: grpc.ChannelCredentials | None = None,
    ):
        if timeout <= 0 or retries < 0:
            raise UserError(f"expected timeout > 0 and retries >= 0, found {timeout} and {retries}")
        check_target(target)
        self.target = target
        self._timeout, self._retries = timeout, retries
        self._calls = Calls(batch_size, max_message_bytes)
        self._credentials = credentials

    def _open(self, library: Any) -> Any:
        """Opens a channel of ``grpc`` or ``grpc.aio``; it connects with the first request."""
        if self._credentials is None:
            return library.insecure_channel(self.target, options=_CHANNEL_OPTIONS)
        return library.secure_channel(self.target, self._credentials, options=_CHANNEL_OPTIONS)

    def _pause(
        self, code: grpc.StatusCode, attempt: int, left: float, details: str | None = None
    ) -> float | None:
        """Seconds before the next attempt; None for no further one."""
        # A server with a thread for each call refuses more of them: "... Threadpool Exhausted".
        busy = code is grpc.StatusCode.RESOURCE_EXHAUSTED and "Threadpool" in (details or "")
        if not (busy or code is grpc.StatusCode.UNAVAILABLE):
            return None
        if attempt >= (self._retries if not busy else BUSY_ATTEMPTS * self._retries):
            return None
        if is_http_error(details or ""):  # it will not become a gRPC port
            return None
        # Jitter, so that many clients do not retry at the same moment.
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt) * random.uniform(0.8, 1.2)
        return pause if pause < left else None

    def _error(self, request: Request, error: grpc.RpcError) -> RequestError:
        code, details = error.code(), (error.details() or "").splitlines()
        words = details[0] if details else ""
        message = f"{self.target}, model {request.model}: {code.name}: {words}"
        if code is grpc.StatusCode.UNAVAILABLE and answers_http(self.target):
            message = (
                f"{self.target}: a REST server answers there; give the server's gRPC port, e.g. "
                f"{self.target.rpartition(':')[0]}:8500 (--port of vatt_tf.serving)"
            )
        elif code is grpc.StatusCode.UNAVAILABLE:
            message += "; is the server running there? (python -m vatt_tf.serving --models=MODELS)"
        elif code is grpc.StatusCode.DEADLINE_EXCEEDED:
            message += f"; no answer in {self._timeout:g} s, give a longer timeout"
        return RequestError(message, code.name, words)


class Client(_Base[Embeddings]):
    """Embeds and classifies through a server, as the embedder of ``vatt_tf.load`` does.

    One channel is kept; it may be used from several threads. A request that finds no server or an
    overloaded one (UNAVAILABLE, or RESOURCE_EXHAUSTED of its threads) is repeated with growing
    pauses within its deadline. Inputs of any number are sent in batches. When the server replaces a
    model in the middle of a call, the call starts again, so that a result is always of one version.

    Args:
        target: ``host:port`` of the server's gRPC port.
        timeout: Seconds for each request, its repetitions included.
        retries: How often a request is repeated when the server is not available.
        batch_size: Windows of video or sound in a request.
        max_message_bytes: Largest request; larger batches are split.
        credentials: TLS credentials; without them the channel is not encrypted.

    Raises:
        UserError: On wrong settings. The methods raise it for wrong inputs, and its subclass
            ``RequestError`` for what the server refuses.
    """

    def __init__(self, target: str = DEFAULT_TARGET, **settings: Any):
        super().__init__(target, **settings)
        self._channel = self._open(grpc)
        self._predict = self._channel.unary_unary(PREDICT)  # bytes to bytes

    def _embed(
        self, modality: str, make: Callable[[ClipSpec], Inputs], space: str | None
    ) -> Embeddings:
        return self._run(self._calls.embed(modality, make, space))

    def split_known(self, text: str) -> tuple[list[str], list[str]] | None:
        """See the base class; None of a text model of an earlier export."""
        return self._run(self._calls.split_known(text))

    def classify(
        self,
        source: PathLike | Sequence[PathLike] | np.ndarray,
        *,
        model: str = "classifier",
        start: float = 0.0,
        end: float | None = None,
        rate: float | None = None,
        windows: int = 4,
    ) -> Classification:
        """Classifies files or arrays of the modality that the served classifier reads.

        Args:
            source: As for ``embed_video`` or ``embed_audio``.
            model: Name of the served classifier.
            start: Where to start, in seconds.
            end: Where to stop, in seconds; None for the end.
            rate: Frames or samples per second of arrays.
            windows: Windows averaged when the input is longer than a clip.
        """
        return self._run(self._calls.classify(model, source, Span(start, end, windows), rate))

    def describe(self, model: str) -> Description:
        """Description of a served model: clip shape, spaces, labels, fingerprint."""
        return self._run(self._calls.describe(model))

    @property
    def dimensions(self) -> dict[str, dict[str, int]]:
        """Embedding dimension per space and modality."""
        described = self._run(self._calls.describe_all())
        return dimensions_of((modality, one.outputs) for modality, one in described.items())

    @property
    def spaces(self) -> dict[str, tuple[str, ...]]:
        """Common spaces and the modalities in them, e.g. ``{"va": ("video", "audio"), ...}``."""
        return {space: tuple(parts) for space, parts in self.dimensions.items()}

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _run(self, steps: Steps[T]) -> T:
        request, result = advance(steps)
        while request is not None:
            try:
                reply = self._send(request)
            except RequestError as error:
                request, result = advance(steps, error=error)
            else:
                request, result = advance(steps, reply)
        return result  # type: ignore[return-value]

    def _send(self, request: Request) -> Reply:
        data = request.serialize()
        deadline = time.monotonic() + self._timeout
        attempt = 0
        while True:
            left = deadline - time.monotonic()
            try:
                return Reply.parse(self._predict(data, timeout=max(left, 0.001)))
            except grpc.RpcError as error:
                pause = self._pause(
                    error.code(), attempt, deadline - time.monotonic(), error.details()
                )
                if pause is None:
                    raise self._error(request, error) from error
            time.sleep(pause)
            attempt += 1


class AsyncClient(_Base[Awaitable[Embeddings]]):
    """``Client`` for asyncio: the same settings; what the methods give is to be awaited.

    Files are decoded in worker threads, so that they do not block the event loop. Create it where
    its event loop runs.
    """

    def __init__(self, target: str = DEFAULT_TARGET, **settings: Any):
        super().__init__(target, **settings)
        self._channel = self._open(grpc.aio)
        self._predict = self._channel.unary_unary(PREDICT)  # bytes to bytes

    async def _embed(
        self, modality: str, make: Callable[[ClipSpec], Inputs], space: str | None
    ) -> Embeddings:
        return await self._run(self._calls.embed(modality, make, space))

    async def split_known(self, text: str) -> tuple[list[str], list[str]] | None:
        """See ``Client.split_known``."""
        return await self._run(self._calls.split_known(text))

    async def classify(
        self,
        source: PathLike | Sequence[PathLike] | np.ndarray,
        *,
        model: str = "classifier",
        start: float = 0.0,
        end: float | None = None,
        rate: float | None = None,
        windows: int = 4,
    ) -> Classification:
        """See ``Client.classify``."""
        span = Span(start, end, windows)
        return await self._run(self._calls.classify(model, source, span, rate))

    async def describe(self, model: str) -> Description:
        """See ``Client.describe``."""
        return await self._run(self._calls.describe(model))

    async def close(self) -> None:
        """Closes the channel."""
        await self._channel.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.close()

    async def _run(self, steps: Steps[T]) -> T:
        request, result = await asyncio.to_thread(advance, steps)
        while request is not None:
            try:
                reply = await self._send(request)
            except RequestError as error:
                request, result = await asyncio.to_thread(advance, steps, None, error)
            else:
                request, result = await asyncio.to_thread(advance, steps, reply)
        return result  # type: ignore[return-value]

    async def _send(self, request: Request) -> Reply:
        data = request.serialize()
        deadline = time.monotonic() + self._timeout
        attempt = 0
        while True:
            left = deadline - time.monotonic()
            try:
                return Reply.parse(await self._predict(data, timeout=max(left, 0.001)))
            except grpc.RpcError as error:
                pause = self._pause(
                    error.code(), attempt, deadline - time.monotonic(), error.details()
                )
                if pause is None:
                    # In a thread: it may probe the port, which would block the event loop.
                    raise await asyncio.to_thread(self._error, request, error) from error
            await asyncio.sleep(pause)
            attempt += 1
