"""One job at a time in a folder."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator

from vatt_tf.errors import UserError


@contextlib.contextmanager
def only_job(
    out: pathlib.Path, job: str, folder: pathlib.Path | None = None, error: type = UserError
) -> Iterator[None]:
    """Keeps a second job out of a folder; the lock goes with the process.

    Args:
        out: The folder that ``--out`` named.
        job: Name of the command, for the message.
        folder: Where the lock file lies; ``out`` by default. It is made.
        error: The :class:`UserError` to raise.

    Raises:
        UserError: If another job is at work there, or the folder cannot be made.
    """
    folder = folder or out
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / "lock", "a")
    except OSError as reason:
        raise error(f"--out={out}: cannot be made: {reason.strerror}") from reason
    with file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise error(
                f"--out={out}: another {job} is at work in this folder; wait for it or stop it"
            ) from None
        except (ImportError, OSError):
            pass  # no locks on this system or disk: two runs are the user's care
        yield
