"""Whisper by faster-whisper (CTranslate2) as the recogniser of ``prepare --transcribe=MODEL``."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pathlib
from typing import Any

import numpy as np

from vatt_tf import paths
from vatt_tf.data.media.captions import Caption, group_words
from vatt_tf.data.media.tracks.audio import AudioTrack
from vatt_tf.data.transcripts.store import Transcript
from vatt_tf.errors import UserError

SAMPLE_RATE = 16_000
# A piece of sound in memory; its features take five times as much.
PIECE_SECONDS = 600
# A sentence that ends closer to the end of a piece may be cut: the next piece begins with it.
EDGE_SECONDS = 1.0
THREADS = 4

# Whisper writes "Thank you." under noise. With its smallest model, sentences have a probability of
# "no speech" up to 0.25, a mean log-probability of the tokens down to -0.96 and a mean probability
# of the words down to 0.54; 17 of 19 sounds without speech that pass the voice detector fail one of
# these. A loop of the decoder is confident, but compresses better than any speech.
MOST_NO_SPEECH = 0.5
LEAST_LOG_PROBABILITY = -1.0
LEAST_WORD_PROBABILITY = 0.4
MOST_COMPRESSION = 2.4


class RecogniserError(UserError):
    """The recogniser is not installed, or its model cannot be used."""


class Whisper:
    """Whisper of any size; loaded when the first file is transcribed.

    Args:
        model: Folder of a CTranslate2 Whisper model, or a size that faster-whisper downloads
            (``tiny``, ``base``, ``small``, ...).
        piece_seconds: Length of the pieces that are in memory one at a time.

    Attributes:
        name: The size, or the name of the folder with a hash of its model.

    Raises:
        RecogniserError: faster-whisper is not installed, or there is no such model.
    """

    def __init__(self, model: str | os.PathLike, piece_seconds: float = PIECE_SECONDS) -> None:
        if importlib.util.find_spec("faster_whisper") is None:
            raise RecogniserError(
                f"--transcribe={model} needs faster-whisper: pip install 'vatt_tf[transcribe]'"
            )
        self._model, self._piece = (
            os.fspath(paths.expand(model)),
            round(piece_seconds * SAMPLE_RATE),
        )
        self._loaded: Any = None
        self.name = _name(self._model)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_loaded": None}

    def __call__(self, path: str) -> Transcript:
        """Transcribes the sound of a media file, a piece at a time.

        Raises:
            MediaError: The file cannot be opened.
            RecogniserError: The model cannot be loaded or fails.
        """
        track = AudioTrack(path, 0.0, SAMPLE_RATE)
        try:
            if track.stream is None:
                return Transcript(note="no sound")
            words: list[Caption] = []
            language, confidence = "", None
            first = 0
            while count := track.available(first, self._piece):
                samples = track.read(first, count)
                found: list[Caption] = []
                if samples is not None:
                    found, heard = self._recognise(samples, language)
                    if found and not language:
                        language, confidence = heard
                groups = group_words(found)
                edge = count / SAMPLE_RATE - EDGE_SECONDS
                if count == self._piece and len(groups) > 1 and groups[-1][-1].end > edge:
                    count = int(groups.pop()[0].start * SAMPLE_RATE)
                words += [
                    Caption(
                        word.start + first / SAMPLE_RATE,
                        word.end + first / SAMPLE_RATE,
                        word.text,
                        language,
                        word.confidence,
                    )
                    for group in groups
                    for word in group
                ]
                first += count
        finally:
            track.close()
        if not words:
            return Transcript(note="no speech")
        return Transcript(words, language, confidence)

    def _recognise(
        self, samples: np.ndarray, language: str
    ) -> tuple[list[Caption], tuple[str, float]]:
        """Words of a piece (seconds from its start); the language and its probability."""
        from faster_whisper.vad import get_speech_timestamps

        model = self._load()
        try:
            # Silero's voice detector; without speech no language can be told either.
            if not get_speech_timestamps(samples):
                return [], ("", 0.0)
            # Temperature 0: the same words each time.
            segments, info = model.transcribe(
                samples,
                language=language or None,
                temperature=0.0,
                condition_on_previous_text=False,
                word_timestamps=True,
                vad_filter=True,
            )
            spoken = [segment for segment in segments if _is_speech(segment)]
        except RuntimeError as error:
            raise RecogniserError(
                f"--transcribe={self._model}: the model fails: {error} (CUDA_VISIBLE_DEVICES=-1 "
                "keeps it off a GPU)"
            ) from error
        words = [
            Caption(float(w.start), float(w.end), w.word.strip(), "", float(w.probability))
            for segment in spoken
            for w in segment.words or ()
            if w.word.strip()
        ]
        return words, (info.language, float(info.language_probability))

    def _load(self) -> Any:
        if self._loaded is None:
            from faster_whisper import WhisperModel

            threads = min(THREADS, os.cpu_count() or 1)
            try:
                # "auto": the fastest numbers of the device, int8 on a CPU.
                self._loaded = WhisperModel(self._model, cpu_threads=threads, compute_type="auto")
            except Exception as error:  # of the network, of the file, of the device
                reason = str(error).strip().splitlines() or [type(error).__name__]
                raise RecogniserError(
                    f"--transcribe={self._model}: the model cannot be loaded: {reason[0]}. A size "
                    "is downloaded, which needs the network: without it give the folder of a "
                    "CTranslate2 Whisper model (model.bin, config.json, tokenizer.json)"
                ) from error
        return self._loaded


def _is_speech(segment: Any) -> bool:
    """Whether a segment of faster-whisper is said and not imagined."""
    words = [word.probability for word in segment.words or ()]
    return (
        bool(words)
        and sum(words) / len(words) >= LEAST_WORD_PROBABILITY
        and segment.no_speech_prob <= MOST_NO_SPEECH
        and segment.avg_logprob >= LEAST_LOG_PROBABILITY
        and segment.compression_ratio <= MOST_COMPRESSION
    )


def _name(model: str) -> str:
    folder = pathlib.Path(model)
    if folder.is_dir():
        lacking = [n for n in ("model.bin", "config.json") if not (folder / n).is_file()]
        if lacking:
            raise RecogniserError(
                f"--transcribe={model}: no {' and no '.join(lacking)} there; expected the folder "
                "of a CTranslate2 Whisper model"
            )
        weights = folder / "model.bin"
        with open(weights, "rb") as file:
            digest = hashlib.sha256(str(weights.stat().st_size).encode() + file.read(2**20))
        return f"{folder.resolve().name}-{digest.hexdigest()[:8]}"
    from faster_whisper import available_models

    sizes = available_models()
    if model not in sizes:
        raise RecogniserError(
            f"--transcribe={model}: no such folder, and none of the sizes {', '.join(sizes)}"
        )
    return f"whisper-{model}"
