"""Model of an index: a run directory, exported SavedModels, or a server."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from vatt_tf import keras_imports, paths
from vatt_tf.data.schema import ClipSpec
from vatt_tf.errors import UserError

if TYPE_CHECKING:
    from vatt_tf.embedder import Embedder, Embeddings
    from vatt_tf.evaluation.calibration import Calibration

KINDS = ("run_dir", "models", "server")


@dataclasses.dataclass(frozen=True)
class Source:
    """Location of a model.

    Attributes:
        kind: ``"run_dir"``, ``"models"`` or ``"server"``.
        address: Folder (absolute), or ``host:port``.
        tls: PEM files of authority, certificate and key for an encrypted server. An index does not
            remember them.
    """

    kind: str
    address: str
    tls: tuple[str | None, ...] = ()

    @classmethod
    def from_flags(
        cls, flags: dict[str, str | None], tls: tuple[str | None, ...] = ()
    ) -> Source | None:
        """Returns the one of --run_dir, --models and --server that is given, or None.

        Raises:
            UserError: If several are given.
        """
        given = {kind: flags[kind] for kind in KINDS if flags.get(kind)}
        if len(given) > 1:
            names = " and ".join(f"--{kind}" for kind in given)
            raise UserError(f"{names} are given: one model is needed, give one of them")
        for kind, address in given.items():
            assert address is not None
            if kind == "server":
                return cls(kind, address, tls)
            address = os.path.abspath(paths.expand(address))
            return cls(kind, address)
        return None


class Model:
    """An embedder with the metadata that an index stores.

    Attributes:
        source: Location of the model.
        embedder: Of any kind.
        clip: Shape of its clips.
        video_spaces: Space of the video tower -> ``{"dim", "partners"}``.
        read_hash: Returns the fingerprint of the weights of a modality.
        calibration: Stored calibration, see ``vatt_tf.evaluation.calibration``.
    """

    def __init__(
        self,
        source: Source,
        embedder: Embedder[Embeddings],
        clip: ClipSpec,
        video_spaces: dict[str, dict[str, Any]],
        read_hash: Callable[[str], str],
        calibration: Any = None,
    ):
        if not video_spaces:
            raise UserError(f"{source.address}: this model has no video tower to search with")
        self.source, self.embedder, self.clip = source, embedder, clip
        self.video_spaces, self._read_hash = video_spaces, read_hash
        self._calibration = calibration

    @property
    def hash(self) -> str:
        """Fingerprint of the weights; a server may change them between two calls."""
        return self.hash_of("video")

    def hash_of(self, modality: str) -> str:
        """Fingerprint of the weights of a tower: a server may have them of several models."""
        return self._read_hash(modality)

    def calibration_of(self, space: str, query: str) -> tuple[Calibration | None, str]:
        """Calibration of the scores of a modality (or None), and a line about it."""
        from vatt_tf.evaluation import calibration

        if query == "video":
            return None, "not calibrated for a query by video: its score is the best of its pieces"
        kind, address = self.source.kind, self.source.address
        found = calibration.read(self._calibration, space, query, self.hash, address)
        if isinstance(found, calibration.Calibration):
            return found, str(found)
        how = calibration.how_to_measure(address if kind == "run_dir" else "RUN")
        again = {"run_dir": "", "models": ", then export again", "server": ", then export again"}
        reason = f": {found}" if found else ""
        return None, f"not calibrated{reason}; {how}{again[kind]}"

    def describe(self) -> dict[str, str]:
        """Description of the model that an index stores."""
        source = self.source
        return {"kind": source.kind, "address": source.address, "hash": self.hash}


def open_model(source: Source, batch_size: int = 8) -> Model:
    """Loads a model, or connects to a server.

    Args:
        source: Location of the model.
        batch_size: Windows that go through the model at once.

    Raises:
        UserError: If there is no usable model.
    """
    return {"run_dir": _from_run, "models": _from_exports, "server": _from_server}[source.kind](
        source, batch_size
    )


def _from_run(source: Source, batch_size: int) -> Model:
    keras_imports.import_lean("keras")
    from vatt_tf import api
    from vatt_tf.models import io

    embedder = api.load(source.address, batch_size=batch_size)
    found = io.weights_hash(embedder.model)
    spaces = {
        space: _space(parts["video"], parts)
        for space, parts in embedder.dimensions.items()
        if "video" in parts
    }
    calibration = io.read_description(source.address).get(io.CALIBRATION)
    return Model(source, embedder, embedder.clip, spaces, lambda _: found, calibration)


def _from_exports(source: Source, batch_size: int) -> Model:
    keras_imports.import_lean("keras")
    from vatt_tf.export import load

    embedder = load(source.address, batch_size=batch_size)
    if embedder.video is None:
        raise UserError(f"{source.address}: has no video model, only {', '.join(embedder.names)}")
    described = embedder.video.description
    return Model(
        source,
        embedder,
        embedder.clip,
        _spaces_of(described["outputs"]),
        lambda _: described["model_hash"],
        described.get("score_calibration"),
    )


def _from_server(source: Source, batch_size: int) -> Model:
    from vatt_tf.serving.client.address import credentials
    from vatt_tf.serving.client.client import Client

    tls = credentials(*source.tls) if source.tls else None
    client = Client(source.address, batch_size=batch_size, credentials=tls)
    video = client.describe("video")
    return Model(
        source,
        client,
        video.clip,
        _spaces_of(video.outputs),
        lambda modality: client.describe(modality).model_hash,
        video.score_calibration,
    )


def _spaces_of(outputs: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Spaces of an exported tower's outputs."""
    return {
        value["space"]: _space(value["dim"], value["partners"])
        for value in outputs.values()
        if value.get("space")
    }


def _space(dim: int, modalities: Iterable[str]) -> dict[str, Any]:
    return {"dim": int(dim), "partners": sorted(set(modalities) - {"video"})}
