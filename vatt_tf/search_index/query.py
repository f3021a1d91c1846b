"""Runs a query: words by text search and embedding, sounds and videos by embedding."""

from __future__ import annotations

import math
import os
import pathlib
from typing import TYPE_CHECKING, Any

from vatt_tf import paths
from vatt_tf.errors import UserError
from vatt_tf.search_index.hits import Found, Hit
from vatt_tf.search_index.spaces import choose_space

if TYPE_CHECKING:
    import numpy as np

    from vatt_tf.evaluation.calibration import Calibration
    from vatt_tf.search_index.folder import Clips, IndexFolder
    from vatt_tf.search_index.models import Model
    from vatt_tf.search_index.ranking import Candidate
    from vatt_tf.search_index.text.index import TextIndex
    from vatt_tf.search_index.text.words import Term

# Rows requested per row shown, because overlapping clips are left out.
SURPLUS = 8
# Fewest candidates by words.
WORD_ROWS = 10_000
PARTIAL_ROWS = 1_000
# Fewest candidates that are reordered by example.
EXAMPLE_ROWS = 1_000
# Smallest fraction of the words without stop words that a found clip holds.
LEAST_WORDS = 0.5


def search(
    index: str | os.PathLike,
    text: str | None = None,
    *,
    audio: str | os.PathLike | None = None,
    video: str | os.PathLike | None = None,
    top: int = 10,
    per_video: int | None = None,
    words_only: bool = False,
    run_dir: str | None = None,
    models: str | None = None,
    server: str | None = None,
    tls_ca: str | None = None,
    tls_cert: str | None = None,
    tls_key: str | None = None,
    videos: str | os.PathLike | None = None,
    exact: bool = False,
) -> Found:
    """Searches an index; one of ``text``, ``audio`` and ``video`` is the query.

    Args:
        index: Folder of the index.
        text: Words.
        audio: Sound or video file whose sound is the query.
        video: Video file.
        top: Moments to find. Of clips of a video that overlap, the best one counts; neighbouring
            ones are one moment.
        per_video: Moments of a video at most.
        words_only: Search captions and file names, without a model.
        run_dir: Location of the model if it has moved; or
        models: the same as exported models; or
        server: the same as ``host:port``.
        tls_ca: PEM file of the server's authority, for an encrypted one.
        tls_cert: PEM file of a certificate to show to the server.
        tls_key: PEM file of its key.
        videos: Folder of the videos if it has moved.
        exact: Compare with every clip, however many there are.

    Raises:
        UserError: If the index, the query or the model cannot be used.
    """
    from vatt_tf.search_index import folder
    from vatt_tf.search_index.models import Source

    queries = {"text": text, "audio": audio, "video": video}
    given = {name: value for name, value in queries.items() if value is not None}
    if len(given) != 1:
        found = " and ".join(given) or "nothing"
        raise UserError(f"expected one query: words, --audio=FILE or --video=FILE; found {found}")
    if text is not None and not paths.is_utf8(text):
        raise UserError(f"the words '{paths.shown(text)}' are not valid UTF-8; write them in UTF-8")
    ((modality, query),) = given.items()
    tls = (tls_ca, tls_cert, tls_key)
    source = Source.from_flags({"run_dir": run_dir, "models": models, "server": server}, tls)
    if words_only and (modality != "text" or source is not None):
        raise UserError("--words_only takes words and no model: leave the other flags out")
    opened = folder.open_index(index)
    if videos is not None and not pathlib.Path(paths.expand(videos)).is_dir():
        raise UserError(f"--videos={os.fspath(videos)}: no such folder")
    clips = opened.clips()
    if not len(clips):
        raise UserError(f"{index}: holds no clip yet; let vatt_tf.embed finish some videos")
    running = _Query(opened, clips, modality, paths.expand(query), videos, tls)
    return running.run(source, top=top, per_video=per_video, words_only=words_only, exact=exact)


class _Query:
    """State of one query."""

    def __init__(
        self,
        index: IndexFolder,
        clips: Clips,
        modality: str,
        query: str | os.PathLike,
        videos: str | os.PathLike | None,
        tls: tuple[str | None, ...],
    ):
        self.index, self.clips, self.modality, self.query = index, clips, modality, query
        self.tls = tls
        self.root = os.fspath(
            pathlib.Path(paths.expand(videos)).absolute()
            if videos is not None
            else index.manifest["settings"]["videos"]
        )
        self.notes: list[str] = []
        self.unknown: tuple[str, ...] = ()
        self.terms: list[Term] = []
        self.calibration: Calibration | None = None
        self.calibrated_by = ""

    def run(
        self, source: Any, *, top: int, per_video: int | None, words_only: bool, exact: bool
    ) -> Found:
        """Searches texts and embeddings and merges their clips into moments."""
        from vatt_tf.search_index.text import index as texts

        opened = self._open_texts(words_only) if self.modality == "text" else None
        try:
            with texts.sqlite_errors(self.index.path / texts.TEXTS):
                words = self._find_words(opened, top)
            finder, space, vector = None, "", None
            if not words_only:
                space = choose_space(self.index, self.modality, opened is not None)
                vector = self._embed(source, space, bool(words), opened is not None)
            if vector is not None:  # --words_only loads no model
                from vatt_tf.search_index import nearest

                finder = nearest.open_search(self.index, space, self.clips, exact)
            moments, missing = self._moments(finder, space, vector, words, top, per_video)
            with texts.sqlite_errors(self.index.path / texts.TEXTS):
                hits = self._hits(moments, opened)
        finally:
            if opened is not None:
                opened.close()
        if missing:
            self.notes.append(
                f"videos are not where they were, in {paths.shown(self.root)}; --videos=DIR names "
                "their new folder"
            )
        return Found(
            query=str(self.query),
            hits=hits,
            space=space if vector is not None else "",
            method=finder.name if finder else "words of captions and file names",
            clips=len(self.clips),
            videos=self.root,
            index=os.fspath(self.index.path),
            unknown=self.unknown,
            notes=tuple(self.notes),
            calibration=self.calibrated_by,
        )

    # --- Words ---

    def _open_texts(self, words_only: bool) -> TextIndex | None:
        """Opens the texts of the index; None, with a note, where there are none."""
        from vatt_tf.search_index.text.index import open_texts, sqlite_errors
        from vatt_tf.search_index.text.words import MAX_TERMS, terms

        self.terms, cut = terms(str(self.query))
        if words_only and not self.terms:
            raise UserError(f"'{self.query}' holds no word to search for")
        if cut:
            self.notes.append(f"only the first {MAX_TERMS} words are looked up in texts")
        again = "run vatt_tf.embed on it again: it adds them without embedding the videos once more"
        try:
            opened = open_texts(self.index.path)
            if opened is not None:
                with sqlite_errors(self.index.path):
                    missing = opened.missing(self.index.entries.values())
                if missing:
                    self.notes.append(f"words of {missing} videos are not indexed yet; {again}")
                return opened
            note = f"words in captions and file names are not indexed; {again}"
        except UserError as error:
            note = str(error)
        if words_only:
            raise UserError(f"{self.index.path}: {note}")
        self.notes.append(note)
        return None

    def _find_words(self, opened: TextIndex | None, top: int) -> dict[int, tuple[float, bool]]:
        """Finds clips that hold words of the query: BM25, and whether they hold all of them."""
        from vatt_tf.data.text.stop_words import STOP_WORDS

        if opened is None or not self.terms:
            return {}
        limit = max(WORD_ROWS, SURPLUS * top)
        every = opened.match(self.terms, every=True, limit=limit)
        found = {row: (score, True) for row, score in every}
        # "the" alone is no reason to find a clip.
        content = [term for term in self.terms if "".join(term.tokens) not in STOP_WORDS]
        content = content or self.terms
        some = opened.match(content, every=False, limit=max(PARTIAL_ROWS, SURPLUS * top))
        some = [(row, score) for row, score in some if row not in found]
        held = opened.held(content, [row for row, _ in some])
        for row, score in some:
            if len(held[row]) >= LEAST_WORDS * len(content):
                found[row] = (score, False)
        places = self._places()
        return {
            int(places[row]): value
            for row, value in found.items()
            if row < len(places) and places[row] >= 0
        }

    def _places(self) -> np.ndarray:
        """Index of the clip for each row of the vectors; -1 for rows of removed videos."""
        import numpy as np

        if self.clips.rows is None:
            return np.arange(len(self.clips))
        places = np.full(self.index.rows, -1)
        places[self.clips.rows] = np.arange(len(self.clips))
        return places

    # --- Embedding ---

    def _embed(self, source: Any, space: str, answered: bool, texts: bool) -> np.ndarray | None:
        """Embeds the query: [pieces, d]; None where its words occur in texts only."""
        from vatt_tf.search_index.models import Source, open_model

        remembered = self.index.manifest["model"]
        try:
            model = open_model(
                source or Source(remembered["kind"], remembered["address"], self.tls)
            )
            found = {model.hash, model.hash_of(self.modality)} - {remembered["hash"]}
            if found:
                raise UserError(
                    f"{model.source.address} has the weights {min(found)[:12]}, the index "
                    f"{self.index.path} was made with {remembered['hash'][:12]} "
                    f"({remembered['address']}): scores between two models mean nothing; give the "
                    "right model, or embed the videos anew into another index"
                )
            if self.modality == "text" and not self._is_known(model, answered):
                return None
            self.calibration, self.calibrated_by = model.calibration_of(space, self.modality)
            if self.modality == "video":
                from vatt_tf.search_index.example import embed_pieces

                length = self.index.manifest["settings"]["clip_seconds"]
                return embed_pieces(model.embedder, model.clip, self.query, space, length)
            return getattr(model.embedder, f"embed_{self.modality}")(self.query, space=space)[None]
        except _UnknownWords as error:
            raise UserError(str(error)) from None
        except UserError as error:
            if not texts:
                raise
            raise UserError(
                f"{error}; without the model, --words_only searches captions and file names"
            ) from error

    def _is_known(self, model: Model, answered: bool) -> bool:
        """Whether a word of the query is in the model's vocabulary, where that is available.

        Raises:
            _UnknownWords: If no word is in the vocabulary, nor in any text.
        """
        from vatt_tf.search_index.text.words import MAX_CHARACTERS

        split = model.embedder.split_known(str(self.query)[:MAX_CHARACTERS])
        if split is None:
            return True
        known, unknown = split
        self.unknown = tuple(unknown)
        if known:
            return True
        reason = (
            f"not in this model's vocabulary: {', '.join(unknown)}"
            if unknown
            else "the model reads none of these words"
        )
        if not answered:
            raise _UnknownWords(
                f"{reason}; nor does a caption or file name hold them. Use other words"
            )
        self.notes.append(f"{reason}; only captions and file names are searched")
        return False

    # --- Moments ---

    def _moments(
        self,
        finder: Any,
        space: str,
        vector: np.ndarray | None,
        words: dict[int, tuple[float, bool]],
        top: int,
        per_video: int | None,
    ) -> tuple[list[Any], bool]:
        """Returns the best moments, and whether videos of some cannot be opened."""
        from vatt_tf.search_index.ranking import Moments, fuse

        settings = self.index.manifest["settings"]
        stride = settings.get("stride_seconds", 0.0)
        length = settings.get("clip_seconds", math.inf)
        own = self._own_videos()
        if len(own) == len(self.clips.files):
            own = set()
            self.notes.append("the index holds no other video: these are moments of the query")
        is_missing: dict[int, bool] = {}

        def missing(video: int) -> bool:
            if video not in is_missing:
                path = os.path.join(self.root, self.clips.files[video])
                is_missing[video] = not os.path.isfile(path)
            return is_missing[video]

        wanted = max(SURPLUS * top, EXAMPLE_ROWS if self.modality == "video" else 0)
        while True:
            near, more = self._nearest(finder, vector, wanted)
            candidates = self._candidates(space, vector, words, near, top)
            candidates = [c for c in candidates if int(self.clips.video[c.clip]) not in own]
            weakest = min((c.cosine for c in candidates if c.cosine is not None), default=0.0)
            found = Moments(top, stride, weakest, per_video, missing)
            for candidate in fuse(candidates):
                start, end = self.clips.times[candidate.clip].tolist()
                end = min(end, start + length)  # the last frame may reach into the next clip
                if not found.add(candidate, int(self.clips.video[candidate.clip]), start, end):
                    break
            # Moments of many clips and missing videos may have used all candidates.
            if found.full or not more:
                return found.found, any(is_missing.values())
            wanted *= SURPLUS

    def _nearest(
        self, finder: Any, vector: np.ndarray | None, wanted: int
    ) -> tuple[dict[int, float], bool]:
        """Returns the nearest clips, best first, with their cosines, and whether there are more."""
        if vector is None:
            return {}, False
        scores, rows = finder.search(vector, min(wanted, len(self.clips)))
        near: dict[int, float] = {}
        for row, score in sorted(
            zip(rows.ravel().tolist(), scores.ravel().tolist(), strict=True),
            key=lambda pair: -pair[1],
        ):
            if row >= 0:
                near.setdefault(row, score)
        return near, wanted < len(self.clips)

    def _candidates(
        self,
        space: str,
        vector: np.ndarray | None,
        words: dict[int, tuple[float, bool]],
        near: dict[int, float],
        top: int,
    ) -> list[Candidate]:
        from vatt_tf.search_index.ranking import Candidate

        cosines: dict[int, float | None] = {**dict.fromkeys(words), **near}
        order: dict[int, float] = {}
        if vector is not None and self.modality != "video":
            others = [clip for clip in words if clip not in near]
            values = self._vectors(space, others) @ vector[0]
            cosines.update(zip(others, values.tolist(), strict=True))
        elif vector is not None:
            from vatt_tf.search_index.example import order_by_video, whitening_of

            white = whitening_of(self.index, space, self.clips)
            matrix = white(vector) @ white(self._vectors(space, list(near))).T
            values = order_by_video(matrix, self.clips.video[list(near)])
            order.update(zip(near, values.tolist(), strict=True))
        first = set(list(near)[:top])
        return [
            Candidate(
                clip,
                cosine,
                words[clip][0] if clip in words else None,
                clip in words and words[clip][1],
                clip in first,
                order.get(clip),
            )
            for clip, cosine in cosines.items()
        ]

    def _vectors(self, space: str, clips: list[int]) -> np.ndarray:
        """Embeddings of clips by their indices: float32 [n, d]."""
        import numpy as np

        places = np.array(clips, np.int64)
        rows = places if self.clips.rows is None else self.clips.rows[places]
        return self.index.vectors_at(space, rows)

    def _own_videos(self) -> set[int]:
        """Finds the videos of the index that are the query file itself."""
        if self.modality == "text":
            return set()
        try:
            facts = os.stat(self.query)
        except OSError:  # opening it gives the reason
            return set()
        own = set()
        for number, file in enumerate(self.clips.files):
            # Compares sizes first: that needs no system call.
            if self.index.entries[file].size == facts.st_size:
                try:
                    other = os.stat(os.path.join(self.root, file))
                except OSError:
                    continue
                if os.path.samestat(facts, other):
                    own.add(number)
        return own

    def _hits(self, moments: list[Any], opened: TextIndex | None) -> list[Hit]:
        rows: dict[int, int] = {}
        for moment in moments:
            for candidate in moment.clips:
                if candidate.bm25 is not None:
                    clip = candidate.clip
                    rows[clip] = clip if self.clips.rows is None else int(self.clips.rows[clip])
        held = opened.held(self.terms, rows.values()) if opened is not None else {}
        hits = []
        for moment in moments:
            ways = {
                way
                for c in moment.clips
                for way, here in (
                    ("words", c.bm25 is not None),
                    ("embedding", c.near or c.bm25 is None),
                )
                if here
            }
            inside = {w for c in moment.clips if c.clip in rows for w in held[rows[c.clip]]}
            score = max((c.cosine for c in moment.clips if c.cosine is not None), default=None)
            higher: tuple[float | None, float | None] = (None, None)
            if self.calibration is not None and score is not None:
                higher = self.calibration.higher(score)
            hits.append(
                Hit(
                    self.clips.files[moment.video],
                    round(moment.start, 3),
                    round(moment.end, 3),
                    score,
                    "both" if len(ways) == 2 else ways.pop(),
                    tuple(term.shown for term in self.terms if term.shown in inside),
                    moment.missing,
                    *higher,
                )
            )
        return hits


class _UnknownWords(UserError):
    """Raised for a query without any word of the vocabulary or of a text."""
