"""One job at a time in a folder."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Callable, Iterator

from vatt_tf.errors import UserError


@contextlib.contextmanager
def only_job(
    out: pathlib.Path,
    job: str,
    folder: pathlib.Path | None = None,
    error: type = UserError,
    without_locks: Callable[[str], None] | None = None,
) -> Iterator[None]:
    """Keeps a second job out of a folder; the lock goes with the process.

    Some network disks have no locks.

    Args:
        out: The folder that ``--out`` named.
        job: Name of the command, for the message.
        folder: Where the lock file lies; ``out`` by default. It is made.
        error: The :class:`UserError` to raise.
        without_locks: Takes a warning where there are no locks and the job goes on, because two
            jobs at once write the same files; None where they would lose data.

    Raises:
        UserError: If another job is at work there, the folder cannot be made, or its disk has no
            locks and the job cannot do without.
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
        except (ImportError, OSError) as reason:
            why = getattr(reason, "strerror", None) or reason
            line = f"--out={out}: its disk has no file locks ({why})"
            if without_locks is None:
                raise error(
                    f"{line}, and two jobs of {job} at once would damage what is there; "
                    "give a folder on a local disk"
                ) from reason
            without_locks(f"{line}: see to it that no second {job} is at work in this folder")
        yield
