"""Bodies of REST requests: read and unpacked within limits."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import AsyncIterator

from aiohttp import web

from vatt_tf.serving.server.models.status import Code, ServingError, invalid

# Bodies up to this size are read however many others are under way.
SMALL = 64 * 1024


class Bodies:
    """Reads the bodies of all requests; together they hold a limited number of bytes."""

    def __init__(self, most: int) -> None:
        """Creates a reader.

        Args:
            most: Bytes of the largest body; all at once have four times as many.
        """
        self._most = most
        self._held = 0

    @contextlib.asynccontextmanager
    async def of(self, request: web.BaseRequest) -> AsyncIterator[bytes]:
        """Yields the body of a request as it was sent; its bytes count until the block ends.

        Raises:
            ServingError: RESOURCE_EXHAUSTED, if it is too large, or large ones are under way.
        """
        check_size(request.content_length or 0, self._most)
        parts: list[bytes] = []
        size = 0
        try:
            async for part in request.content.iter_any():
                check_size(size + len(part), self._most)
                if size + len(part) > SMALL and self._held + len(part) > 4 * self._most:
                    raise ServingError(
                        Code.RESOURCE_EXHAUSTED,
                        f"large bodies of {self._held} bytes are under way: try again later",
                    )
                size += len(part)
                self._held += len(part)
                parts.append(part)
            body = b"".join(parts)
            parts.clear()
            yield body
        finally:
            self._held -= size


def check_size(size: int, most: int) -> None:
    """Refuses a body with more bytes than there may be."""
    if size > most:
        raise ServingError(
            Code.RESOURCE_EXHAUSTED,
            f"a body of more than {most} bytes (max_rest_body_bytes); send less, or use gRPC",
        )


def unpack(body: bytes, encoding: str, most: int) -> bytes:
    """Unpacks a gzip body; any other encoding is left as it is, as a model server does.

    Raises:
        ServingError: INVALID_ARGUMENT, if it is no gzip; RESOURCE_EXHAUSTED, if it is too large.
    """
    if "gzip" not in encoding.lower():
        return body
    stream = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        content = stream.decompress(body, most + 1)
    except zlib.error as error:
        invalid(f"Content-Encoding: {encoding}: the body cannot be unpacked: {error}")
    check_size(len(content), most)
    if not stream.eof:
        invalid(f"Content-Encoding: {encoding}: the body ends in the middle")
    return content
