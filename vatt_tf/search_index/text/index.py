"""SQLite database of the words of every clip: captions, transcripts and file names.

    INDEX/texts.sqlite   table ``clips`` (FTS5; the row number is the row of the clip's vectors) and
                         table ``videos`` (a row per indexed video)

``videos.jsonl`` is authoritative: :meth:`TextIndex.sync` compares the database with it and with the
caption files, and indexes what is missing or has changed. Transactions are atomic, so that after a
kill the next run indexes the missing videos.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import os
import pathlib
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Sequence

from vatt_tf import paths
from vatt_tf.data.media.captions import Caption
from vatt_tf.data.text.scripts import join_blanks
from vatt_tf.errors import UserError
from vatt_tf.search_index.folder import TEXTS, Entry
from vatt_tf.search_index.text.sidecars import RULES, Sidecars, clip_texts, name_words
from vatt_tf.search_index.text.sqlite import sqlite3
from vatt_tf.search_index.text.words import TOKENIZER, Term
from vatt_tf.wording import count_of

VERSION = 1  # of the tables; a database of another version is rebuilt
# Videos in a transaction, and seconds to wait for the lock of another process.
VIDEOS, WAIT_SECONDS = 500, 30.0
EXAMPLE_WORDS = 4

_TABLES = f"""
CREATE TABLE videos (
    file BLOB PRIMARY KEY, first INTEGER, clips INTEGER, stamp TEXT, captions TEXT, problem TEXT
) WITHOUT ROWID;
CREATE VIRTUAL TABLE clips USING fts5(captions, name, tokenize="{TOKENIZER}");
PRAGMA user_version = {VERSION};
"""


@dataclasses.dataclass(frozen=True)
class Coverage:
    """Result of :meth:`TextIndex.coverage`.

    Attributes:
        videos: Number of indexed videos.
        captions: Number of those with captions.
        problems: What could not be read of the caption files, a line for each of them.
        example: Words that a clip holds; "" where no clip holds any.
    """

    videos: int
    captions: int
    problems: list[str]
    example: str = ""


class TextIndex:
    """Text database of an index; open it with :func:`open_texts` or :func:`update_texts`."""

    def __init__(self, connection: sqlite3.Connection):
        self._connection = connection

    def sync(self, entries: Iterable[Entry], sidecars: Sidecars) -> int:
        """Indexes the words of new and changed videos, and removes those of others.

        Args:
            entries: The index's entries.
            sidecars: The caption files.

        Returns:
            Number of videos that were indexed.
        """
        known = dict(self._connection.execute("SELECT file, stamp FROM videos"))
        waiting = []
        for entry in entries:
            if not entry.present or not entry.times:
                continue
            captions, notes = sidecars.find(entry.file)
            stamp = _stamp(entry, sidecars.root, captions)
            if known.get(_key(entry.file)) == stamp:
                del known[_key(entry.file)]
            else:
                waiting.append((entry, captions, notes, stamp))
        with self._connection:
            # Removes before it adds: a new video may have the rows of a removed one.
            for file in known:
                self._remove(file)
        parts = iter(waiting)
        while part := list(itertools.islice(parts, VIDEOS)):
            with self._connection:
                for entry, captions, notes, stamp in part:
                    self._add(entry, sidecars, captions, notes, stamp)
        return len(waiting)

    def match(self, terms: Sequence[Term], every: bool, limit: int) -> list[tuple[int, float]]:
        """Finds clips that hold every (or any) term: rows, best first, and their BM25.

        Args:
            terms: Terms of the query.
            every: Whether a clip has to hold all of them.
            limit: Largest number of rows.

        Returns:
            (row of the vectors, BM25); equal ones come in the order of the rows.
        """
        if not terms:
            return []
        query = (" AND " if every else " OR ").join(term.match for term in terms)
        found = self._connection.execute(
            # bm25() of FTS5 is the negative score.
            "SELECT rowid, -bm25(clips) AS score FROM clips WHERE clips MATCH ? "
            "ORDER BY score DESC, rowid LIMIT ?",
            (query, limit),
        )
        return [(row, round(score, 9)) for row, score in found]

    def held(self, terms: Sequence[Term], rows: Iterable[int]) -> dict[int, list[str]]:
        """Returns row -> terms that its clip holds, as written in the query."""
        asked = {row: [] for row in rows}  # type: dict[int, list[str]]
        for term in terms:
            for part in _parts(list(asked), 500):  # SQLite's limit of values
                marks = ",".join("?" * len(part))
                found = self._connection.execute(
                    f"SELECT rowid FROM clips WHERE clips MATCH ? AND rowid IN ({marks})",
                    (term.match, *part),
                )
                for (row,) in found:
                    asked[row].append(term.shown)
        return asked

    def missing(self, entries: Iterable[Entry]) -> int:
        """Number of present videos whose words are not indexed."""
        known = {first for (first,) in self._connection.execute("SELECT first FROM videos")}
        return sum(
            entry.present and bool(entry.times) and entry.first not in known for entry in entries
        )

    def coverage(self) -> Coverage:
        """Counts the videos, and lists what could not be read of their caption files."""
        ((videos, captions),) = self._connection.execute(
            "SELECT count(*), count(captions) FROM videos"
        )
        problems = self._connection.execute(
            "SELECT problem FROM videos WHERE problem IS NOT NULL ORDER BY file"
        )
        found = [problem for (problem,) in problems]
        return Coverage(videos, captions, found, self._example())

    def _example(self) -> str:
        """Example words of one clip, of one with captions if possible."""
        first = self._connection.execute(
            "SELECT first, clips FROM videos ORDER BY captions IS NULL, first LIMIT 1"
        ).fetchone()
        if first is None:
            return ""
        clips = self._connection.execute(
            "SELECT captions, name FROM clips WHERE rowid >= ? AND rowid < ? ORDER BY rowid",
            (first[0], sum(first)),
        ).fetchall()
        text = next((captions for captions, _ in clips if captions), clips[0][1])
        return join_blanks(text.split()[:EXAMPLE_WORDS])

    def close(self) -> None:
        """Closes the database."""
        self._connection.close()

    def _remove(self, file: bytes) -> None:
        row = self._connection.execute(
            "SELECT first, clips FROM videos WHERE file = ?", (file,)
        ).fetchone()
        if row is None:
            return
        first, count = row
        self._connection.execute(
            "DELETE FROM clips WHERE rowid >= ? AND rowid < ?", (first, first + count)
        )
        self._connection.execute("DELETE FROM videos WHERE file = ?", (file,))

    def _add(
        self,
        entry: Entry,
        sidecars: Sidecars,
        captions: str | None,
        notes: list[str],
        stamp: str,
    ) -> None:
        spoken: list[Caption] = []
        if captions is not None:
            try:
                spoken, notes = sidecars.read(captions, entry.size)
            except UserError as error:
                notes = [f"not used: {error}"]
        more = f" (and {count_of(len(notes) - 1, 'more note')})" if len(notes) > 1 else ""
        problem = paths.shown(notes[0] + more) if notes else None
        if not spoken:  # also a transcript of silence
            captions = None
        texts = clip_texts(spoken, entry.times)
        name = name_words(entry.file)
        self._connection.executemany(
            "INSERT INTO clips (rowid, captions, name) VALUES (?, ?, ?)",
            ((entry.first + k, text, name) for k, text in enumerate(texts)),
        )
        self._connection.execute(
            "INSERT INTO videos VALUES (?, ?, ?, ?, ?, ?)",
            (_key(entry.file), entry.first, len(entry.times), stamp, captions, problem),
        )


def open_texts(folder: pathlib.Path) -> TextIndex | None:
    """Opens the texts of an index to search them; None where it has none.

    Raises:
        UserError: If the database is damaged or cannot be read.
    """
    path = folder / TEXTS
    if not path.exists():
        return None
    with sqlite_errors(path):
        connection = _connect(path, "rw")  # read-only where the file cannot be written
        version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version != VERSION:
        connection.close()
        return None
    return TextIndex(connection)


def update_texts(
    folder: pathlib.Path,
    entries: Iterable[Entry],
    sidecars: Sidecars,
    say: Callable[[str], None] = lambda note: None,
) -> Coverage | None:
    """Updates the texts of an index; creates the database where it is missing or damaged.

    An error is reported and does not end the job; the next run tries again.

    Returns:
        Coverage of the database; None after an error.
    """
    path, entries = folder / TEXTS, list(entries)
    for attempt in range(2):
        try:
            with contextlib.closing(_create(path)) as connection:
                texts = TextIndex(connection)
                texts.sync(entries, sidecars)
                return texts.coverage()
        except (sqlite3.Error, OSError) as error:
            damaged = isinstance(error, sqlite3.DatabaseError) and not isinstance(
                error, sqlite3.OperationalError
            )
            if damaged and attempt == 0:
                _delete(path)
                continue
            say(f"{path}: the words of the clips are not up to date ({error})")
    return None


@contextlib.contextmanager
def sqlite_errors(path: str | os.PathLike) -> Iterator[None]:
    """Turns errors of SQLite into a line that names the file.

    Raises:
        UserError: For each of them.
    """
    try:
        yield
    except sqlite3.Error as error:
        raise UserError(
            f"{path}: the words of the clips cannot be read ({error}); run vatt_tf.embed again, "
            "which makes them anew where they are damaged"
        ) from error


def _create(path: pathlib.Path) -> sqlite3.Connection:
    if path.exists():
        connection = _connect(path, "rw")
        try:
            if connection.execute("PRAGMA user_version").fetchone()[0] == VERSION:
                return connection
        except sqlite3.Error:
            connection.close()
            raise
        connection.close()
        _delete(path)
    connection = _connect(path, "rwc")
    try:
        connection.executescript(f"BEGIN; {_TABLES} COMMIT;")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _delete(path: pathlib.Path) -> None:
    path.unlink(missing_ok=True)
    path.with_name(f"{path.name}-journal").unlink(missing_ok=True)


def _connect(path: pathlib.Path, mode: str) -> sqlite3.Connection:
    # The mode needs a URI, in which names of any bytes are quoted.
    uri = f"file:{urllib.parse.quote(os.fsencode(path.absolute()))}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=WAIT_SECONDS)


def _key(file: str) -> bytes:
    """Encodes a file name of any bytes as UTF-8, the only encoding of SQLite."""
    return file.encode("utf-8", "surrogatepass")


def _stamp(entry: Entry, root: pathlib.Path, captions: str | None) -> str:
    """Stamp of a video: changes with its clips, its caption file and the rules of indexing."""
    state: tuple[int, int] = (0, 0)
    if captions is not None:
        with contextlib.suppress(OSError):
            facts = (root / captions).stat()
            state = facts.st_size, facts.st_mtime_ns
    content = repr((RULES, entry.first, entry.times, captions, state))
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _parts(values: list[int], size: int) -> Iterator[list[int]]:
    for first in range(0, len(values), size):
        yield values[first : first + size]
