"""Connections of the REST server: so many at most, and none that stays without a request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class Connections:
    """Makes the protocol of each connection and keeps account of them.

    A connection waits from its start, or a reply, until the next request is here as a whole: one
    that trickles a header or a body waits, too. Of those that wait the oldest one is closed when
    there is no room for another, and each after some seconds.
    """

    def __init__(self, make: Callable[[], Any], most: int, idle_seconds: float) -> None:
        """Creates an account without connections.

        Args:
            make: Makes a protocol.
            most: Connections at a time.
            idle_seconds: How long one may wait.
        """
        self._make, self._most, self._idle_seconds = make, most, idle_seconds
        # Since when it waits, on the loop's clock; None while a request is worked on.
        self._waiting: dict[asyncio.BaseTransport | None, float | None] = {}

    def __call__(self) -> asyncio.Protocol:
        """Protocol of a new connection."""
        return _Connection(self, self._make())

    def work(self, transport: asyncio.BaseTransport | None) -> None:
        """A request of the connection is here and is worked on, until it waits again."""
        if transport in self._waiting:
            self._waiting[transport] = None

    def wait(self, transport: asyncio.BaseTransport | None) -> None:
        """The connection waits from now on."""
        if transport in self._waiting:
            del self._waiting[transport]  # to the end: the oldest is the first
            self._waiting[transport] = asyncio.get_running_loop().time()

    def reads(self, transport: asyncio.BaseTransport | None) -> None:
        """The client of the connection has read a part of a long reply."""
        if self._waiting.get(transport) is not None:
            self.wait(transport)

    def opened(self, transport: asyncio.Transport) -> None:
        """Adds a connection; closes another one, or this one, if there is no room."""
        if len(self._waiting) >= self._most:
            waiting = (one for one, since in self._waiting.items() if since is not None)
            oldest: Any = next(waiting, transport)
            self.closed(oldest)
            oldest.abort()
            if oldest is transport:
                return
        self._waiting[transport] = asyncio.get_running_loop().time()

    def closed(self, transport: asyncio.BaseTransport | None) -> None:
        """Removes a connection."""
        self._waiting.pop(transport, None)

    async def watch(self) -> None:
        """Closes, for ever, connections that wait too long."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(1.0, self._idle_seconds / 2))
            limit = loop.time() - self._idle_seconds
            for transport, since in list(self._waiting.items()):
                if since is not None and since < limit:
                    self.closed(transport)
                    transport.abort()  # type: ignore[union-attr]


class _Connection(asyncio.Protocol):
    """Protocol of the HTTP library whose beginning and end are accounted for."""

    def __init__(self, connections: Connections, protocol: Any) -> None:
        self._connections, self._protocol = connections, protocol
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._connections.opened(self._transport)
        self._protocol.connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.closed(self._transport)
        self._protocol.connection_lost(error)

    def data_received(self, data: bytes) -> None:
        self._protocol.data_received(data)

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received()

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._connections.reads(self._transport)
        self._protocol.resume_writing()
