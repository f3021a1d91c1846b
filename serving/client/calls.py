"""Calls of the clients, independent of the transport (blocking or asyncio).

Every call is a generator that yields requests, is sent the replies (or thrown the errors) and
returns the result. ``Client`` and ``AsyncClient`` only differ in how they carry the requests.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Generator
from typing import Any, TypeVar

import numpy as np

from vatt_tf.data.media import windows as windows_lib
from vatt_tf.data.media.windows import Inputs, Span
from vatt_tf.data.schema import MODALITIES, ClipSpec
from vatt_tf.data.text.known_words import TOKENS, UNKNOWN, VOCABULARY, split_known, split_words
from vatt_tf.embedder import Embeddings, WindowSums, batches, choose_spaces
from vatt_tf.errors import UserError
from vatt_tf.serving.client.protocol import Reply, Request

T = TypeVar("T")
Steps = Generator[Request, Reply, T]

INPUT_NAMES = {"video": "frames", "audio": "waveform", "text": "text"}
# Restarts of a call whose model is replaced by another version meanwhile.
ATTEMPTS = 3
# Strings per clip in a batch: a string is a thousandth of the work of a clip.
TEXTS_PER_WINDOW = 8


class RequestError(UserError):
    """Raised for an error of the server, or for no reply.

    Attributes:
        code: Name of the gRPC status code, e.g. ``"NOT_FOUND"``.
        details: Message of the server.
    """

    def __init__(self, message: str, code: str, details: str = ""):
        super().__init__(message)
        self.code, self.details = code, details


@dataclasses.dataclass(frozen=True)
class Description:
    """Description of a served model, from its signature ``describe``.

    Attributes:
        version: Served version.
        modality: ``"video"``, ``"audio"`` or ``"text"``.
        clip: Shape of the clips that it was trained on.
        outputs: Output name -> ``{"space", "dim", "partners"}`` of the embeddings.
        labels: Names of the classes of a classifier, else empty.
        model_hash: Fingerprint of the weights.
        score_calibration: Calibration of the cosines (see ``vatt_tf.evaluation.calibration``); None
            without one.
    """

    version: int
    modality: str
    clip: ClipSpec
    outputs: dict[str, dict[str, Any]]
    labels: tuple[str, ...]
    model_hash: str
    score_calibration: dict[str, Any] | None = None


@dataclasses.dataclass(frozen=True)
class Classification:
    """Classes of one input, or of several along the first axis.

    Attributes:
        probabilities: float32 [classes] or [n, classes], the mean over the windows.
        logits: The same of the logits.
        labels: Names of the classes; empty where the model has none, then they are numbered.
    """

    probabilities: np.ndarray
    logits: np.ndarray
    labels: tuple[str, ...]

    def top(self, count: int = 5) -> Any:
        """Most probable classes of an input as (label, probability); a list per input."""
        if self.probabilities.ndim == 2:
            return [Classification(p, p, self.labels).top(count) for p in self.probabilities]
        best = np.argsort(-self.probabilities, kind="stable")[:count]
        names = self.labels or [f"class {i}" for i in range(len(self.probabilities))]
        return [(names[i], float(self.probabilities[i])) for i in best]


class Calls:
    """Calls of a client, with a cache of the descriptions of the server's models.

    Args:
        batch_size: Windows of video or sound in a request (strings: eight times as many).
        max_message_bytes: Largest request.
    """

    def __init__(self, batch_size: int, max_message_bytes: int):
        if batch_size < 1:
            raise UserError(f"batch_size must be at least 1, found {batch_size}")
        self._batch_size, self._max_bytes = batch_size, max_message_bytes
        self._known: dict[str, Description] = {}
        self._limits: dict[str, int] = {}  # largest batch that the server has accepted

    def describe(self, model: str) -> Steps[Description]:
        """Requests the description of a model; it is cached until another version replies."""
        if model not in self._known:
            try:
                reply = yield Request(model, "describe", {"query": np.array([b""], object)})
            except RequestError as error:
                if error.code == "FAILED_PRECONDITION":
                    raise UserError(
                        f"the served model {model} has no signature 'describe': it was not "
                        "written by vatt_tf.export; export it with "
                        "`python -m vatt_tf.export --run_dir=RUN --out=MODELS`"
                    ) from error
                raise
            self._known[model] = _description(model, reply)
        return self._known[model]

    def describe_all(self) -> Steps[dict[str, Description]]:
        """Descriptions of the towers that are served.

        Raises:
            UserError: If none is.
        """
        found = {}
        for modality in MODALITIES:
            try:
                found[modality] = yield from self.describe(modality)
            except RequestError as error:
                if error.code != "NOT_FOUND":
                    raise
        if not found:
            raise UserError(
                f"the server has none of the models {', '.join(MODALITIES)}; start it on a folder "
                "that `python -m vatt_tf.export` wrote"
            )
        return found

    def embed(
        self, modality: str, make: Callable[[ClipSpec], Inputs], space: str | None
    ) -> Steps[Embeddings]:
        """Embeds the inputs that ``make`` gives for the clip shape of the served model."""

        def wanted(description: Description) -> dict[str, str]:
            names = {
                value["space"]: name
                for name, value in description.outputs.items()
                if value.get("space")
            }
            spaces = {
                space: (modality, *description.outputs[name]["partners"])
                for space, name in names.items()
            }
            return {name: names[name] for name in choose_spaces(modality, spaces, space)}

        _, sums = yield from self._sums(modality, make, wanted)
        return sums.embeddings(modality, space)

    def split_known(self, text: str) -> Steps[tuple[list[str], list[str]] | None]:
        """Splits words by the vocabulary of the served text model; None for an earlier export."""
        words = split_words(text)
        if not words:
            return [], []
        rows = np.array([word.encode() for word in words], object)
        try:
            replies = yield from self._send("text", "text", rows, VOCABULARY)
        except RequestError as error:
            if error.code == "FAILED_PRECONDITION" and VOCABULARY in error.details:
                return None  # there is no such signature
            raise
        parts = [reply.outputs for _, reply in replies]
        counts = {n: np.concatenate([part[n] for part in parts]) for n in (TOKENS, UNKNOWN)}
        return split_known(words, counts)

    def classify(
        self, model: str, source: Any, span: Span, rate: float | None
    ) -> Steps[Classification]:
        """Classifies inputs of the modality that the served classifier reads."""
        first = yield from self.describe(model)
        if first.modality not in ("video", "audio"):
            raise UserError(
                f"model {model!r} reads {first.modality}, the client classifies by one modality; "
                "send all inputs in one Predict request (docs/export.md)"
            )

        def make(clip: ClipSpec) -> Inputs:
            if first.modality == "video":
                return windows_lib.video_inputs(source, clip, span, rate)
            samples = None if rate is None else round(rate)
            return windows_lib.audio_inputs(source, clip, span, samples)

        outputs = {"logits": "logits", "probabilities": "probabilities"}
        description, sums = yield from self._sums(model, make, lambda _: outputs)
        return Classification(**sums.means(), labels=description.labels)

    def _sums(
        self,
        model: str,
        make: Callable[[ClipSpec], Inputs],
        outputs: Callable[[Description], dict[str, str]],
    ) -> Steps[tuple[Description, WindowSums]]:
        """Sends all windows, to one version of the model.

        Args:
            model: Its name.
            make: Gives the inputs for the shape of its clips.
            outputs: Gives the names under which outputs are added up -> names of the outputs.
        """
        for _ in range(ATTEMPTS):
            description = yield from self.describe(model)
            wanted = outputs(description)
            inputs = make(description.clip)
            try:
                sums = yield from self._stream(model, description, inputs, wanted)
            except RequestError as error:
                # Another version may have replaced the model, with other shapes.
                self._known.pop(model, None)
                if error.code not in ("INVALID_ARGUMENT", "FAILED_PRECONDITION"):
                    raise
                if (yield from self.describe(model)).version == description.version:
                    raise
                continue
            if sums is not None:
                return description, sums
            self._known.pop(model, None)
        raise RequestError(f"model {model}: its version changed {ATTEMPTS} times", "ABORTED")

    def _stream(
        self, model: str, description: Description, inputs: Inputs, wanted: dict[str, str]
    ) -> Steps[WindowSums | None]:
        """Sums of the outputs per input; None when another version took over meanwhile."""
        sums = WindowSums(inputs)
        modality = description.modality
        size = self._batch_size * (TEXTS_PER_WINDOW if modality == "text" else 1)
        for owners, rows in batches(inputs, size, self._max_bytes):
            for first, reply in (yield from self._send(model, INPUT_NAMES[modality], rows)):
                if reply.version != description.version:
                    return None
                for output in wanted.values():
                    if output not in reply.outputs:
                        found = ", ".join(reply.outputs)
                        raise UserError(f"model {model} has no output {output} (it has {found})")
                values = {name: reply.outputs[output] for name, output in wanted.items()}
                count = len(next(iter(values.values())))
                sums.add(owners[first : first + count], values)
        return sums

    def _send(
        self,
        model: str,
        input_name: str,
        rows: np.ndarray,
        signature: str = "serving_default",
    ) -> Steps[list[tuple[int, Reply]]]:
        """Sends rows, in smaller batches where the server refuses their number."""
        replies = []
        begin = 0
        while begin < len(rows):
            piece = rows[begin : begin + self._limits.get(model, len(rows))]
            try:
                reply = yield Request(model, signature, {input_name: piece})
            except RequestError as error:
                smaller = _smaller(error, len(piece))
                if smaller is None:
                    raise
                self._limits[model] = smaller
                continue
            replies.append((begin, reply))
            begin += len(piece)
        return replies


def advance(
    steps: Steps[T], reply: Reply | None = None, error: RequestError | None = None
) -> tuple[Request | None, T | None]:
    """Advances a call by one step: the next request, or None and the result."""
    try:
        if error is not None:
            return steps.throw(error), None
        return steps.send(reply), None  # type: ignore[arg-type]
    except StopIteration as stop:
        return None, stop.value


def _description(model: str, reply: Reply) -> Description:
    try:
        content = json.loads(reply.outputs["description"].ravel()[0])
        return Description(
            version=reply.version,
            modality=content["modality"],
            clip=ClipSpec.from_dict(content["clip"]),
            outputs=content["outputs"],
            labels=tuple(content.get("labels") or ()),
            model_hash=content["model_hash"],
            score_calibration=content.get("score_calibration"),
        )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise UserError(
            f"the served model {model} describes itself in a way that this version does not "
            f"understand ({type(error).__name__}: {error}); export it again with this version"
        ) from error


def _smaller(error: RequestError, rows: int) -> int | None:
    """Smaller number of rows after a refusal; None where the number is not the reason."""
    found = re.search(r"larger than maximum input batch size (\d+)", error.details)
    if found:
        limit = int(found.group(1))
        return limit if 0 < limit < rows else None
    if error.code == "RESOURCE_EXHAUSTED" and "larger than max" in error.details and rows > 1:
        return rows // 2
    return None
