"""Items that a thread reads ahead, and that is given up where it comes no further."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any, TypeVar

from vatt_tf.data.media.tracks.container import MediaError

# A packet of 36 million pixels takes a second or two, on a busy machine some more.
PATIENCE_SECONDS = 30.0
_Item = TypeVar("_Item")


class StalledError(MediaError):
    """A file in which the decoder came no further; its thread goes on and must not be disturbed."""


def read_ahead(
    items: Iterator[_Item], depth: int, progress: Callable[[], Any] | None = None
) -> Generator[_Item, None, None]:
    """Yields what a thread takes from an iterator.

    Args:
        items: Iterator; its errors are raised here.
        depth: Items that wait at most.
        progress: Something that changes while the next item is being made, if it is watched.

    Raises:
        StalledError: No item came, and ``progress`` did not change, for ``PATIENCE_SECONDS``: a
            call of the decoder does not return. Nothing can end it but the end of the process.
    """
    ready: queue.Queue[tuple[str, Any]] = queue.Queue(depth)
    stop = threading.Event()

    def put(kind: str, value: Any) -> bool:
        while not stop.is_set():
            with contextlib.suppress(queue.Full):
                ready.put((kind, value), timeout=0.1)
                return True
        return False

    def work() -> None:
        try:
            for item in items:
                if not put("item", item):
                    return
            put("end", None)
        except BaseException as error:  # re-raised by the consumer
            put("error", error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    seen, stalled = None, False
    try:
        while True:
            try:
                kind, value = ready.get(timeout=PATIENCE_SECONDS if progress else None)
            except queue.Empty:
                before, seen = seen, progress() if progress else None
                stalled = seen == before
                if stalled:
                    reason = f"the decoder came no further for {PATIENCE_SECONDS:g} s"
                    raise StalledError(reason) from None
                continue
            if kind == "error":
                raise value
            if kind == "end":
                return
            yield value
    finally:
        stop.set()
        if not stalled:
            thread.join()


@contextlib.contextmanager
def clips_of(reader: Any, spans: Any) -> Iterator[Iterator[Any]]:
    """Yields the clips of a reader, read ahead and watched, and closes it in the end.

    Args:
        reader: One of ``ClipReader``, ``AudioReader`` and ``ImageReader``.
        spans: What its ``clips`` takes, or a function that gives it.
    """
    with contextlib.ExitStack() as stack:
        stack.callback(reader.close)
        items = reader.clips(spans() if callable(spans) else spans)
        clips = read_ahead(items, 1, lambda: reader.progress)
        stack.enter_context(contextlib.closing(clips))
        try:
            yield clips
        except StalledError:
            stack.pop_all()  # closing a file under its decoder would crash
            raise
