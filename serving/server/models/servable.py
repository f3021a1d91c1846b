"""Loaded version of a model: a TensorFlow session and its signatures."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_text  # noqa: F401  (registers the tokenizer ops of text models)
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

# Private, and pinned with TensorFlow: the only way to hand arrays to a session unchanged. The
# public Session.run casts them to the placeholder's dtype (tensorflow/tensorflow issue 9902) and
# refuses other shapes than the placeholder's; a model server does neither.
from tensorflow.python.client import pywrap_tf_session

from vatt_tf import native_log, paths
from vatt_tf.serving.server.models.status import Code, ServingError, from_exception

native_log.limit_abseil()

DEFAULT_SIGNATURE = "serving_default"
_GRAPH_FILES = ("saved_model.pb", "saved_model.pbtxt")
_VARIABLES = os.path.join("variables", "variables.index")
_MISSING_OP = re.compile(r"Op type not registered '([^']+)'")


class Servable:
    """A SavedModel version, loaded.

    A session (not ``tf.saved_model.load``) holds it, as in a model server: any SavedModel loads,
    errors have the codes and texts of the runtime, and closing the session frees everything.

    Attributes:
        name: Name of the model.
        version: Version number.
        path: Folder it was read from.
        signatures: Signature name -> SignatureDef, with the initialisation op's.
    """

    def __init__(
        self,
        name: str,
        version: int,
        path: str,
        *,
        tags: Sequence[str] = ("serve",),
        session_config: tf.compat.v1.ConfigProto | None = None,
    ) -> None:
        """Loads the version.

        Args:
            name: Name of the model.
            version: Version number.
            path: Folder with saved_model.pb and variables/.
            tags: Tags of the graph to load.
            session_config: Thread counts and the like.

        Raises:
            ServingError: If it cannot be loaded; with the reason.
        """
        self.name = name
        self.version = version
        self.path = path
        self._missing_op: str | None = None
        graph = tf.Graph()
        self._session = tf.compat.v1.Session(graph=graph, config=session_config)
        self.signatures: dict[str, meta_graph_pb2.SignatureDef] = {}
        try:
            meta_graph = _load(self._session, path, tags)
            self.signatures = _copy(meta_graph.signature_def)
            # Looked up once: a lookup by name costs as much as a run of a small model.
            self._tensors = {
                info.name: graph.get_tensor_by_name(info.name)._as_tf_output()
                for signature in self.signatures.values()
                for info in (*signature.inputs.values(), *signature.outputs.values())
                if info.name and ":" in info.name
            }
        except Exception as error:
            self.close()
            failure = _load_error(error)
            signatures = _signatures_without_op(path, tags, failure.message)
            if signatures is None:
                raise failure from error
            # A model server looks for the ops inside functions only when they run.
            self.signatures, self._missing_op = signatures, failure.message

    def run(
        self,
        signature: str,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        timeout: float | None = None,
    ) -> list[Any]:
        """Runs the graph.

        Args:
            signature: Name of the signature that the tensors belong to.
            feeds: Tensor name -> value, dtype and shape as they are.
            fetches: Names of the tensors to return.
            timeout: Seconds after which the run is given up; None: never.

        Returns:
            One array (or NumPy scalar, or ``bytes``) per fetched tensor.

        Raises:
            ServingError: With the code and message of the op that failed.
        """
        del signature  # Only batching has a queue per signature.
        if self._missing_op is not None:
            raise ServingError(Code.NOT_FOUND, self._missing_op)
        options = None
        if timeout is not None:
            if timeout <= 0:
                raise ServingError(Code.DEADLINE_EXCEEDED, "Timed out before the run started")
            milliseconds = max(1, min(int(timeout * 1000), 2**31 - 1))
            options = pywrap_tf_session.TF_NewBufferFromString(
                tf.compat.v1.RunOptions(timeout_in_ms=milliseconds).SerializeToString()
            )
        try:
            return self._session._call_tf_sessionrun(
                options,
                {self._tensors[name]: value for name, value in feeds.items()},
                [self._tensors[name] for name in fetches],
                [],
                None,
            )
        except UnicodeDecodeError as error:
            # A kernel quotes its input, which is not text, and TensorFlow loses the code over it:
            # only kernels that decode do so.
            message = error.object.decode("utf-8", "replace")
            raise ServingError(Code.INVALID_ARGUMENT, message) from error
        except Exception as error:  # TensorFlow's errors have no common base but Exception.
            raise from_exception(error) from error
        finally:
            if options is not None:
                pywrap_tf_session.TF_DeleteBuffer(options)

    def close(self) -> None:
        """Frees the memory of the version; no run may be under way."""
        self._tensors = {}
        self._session.close()


def _load(session: tf.compat.v1.Session, path: str, tags: Sequence[str]) -> Any:
    """Reads graph and variables into the session; returns the MetaGraphDef."""
    if not any(os.path.exists(os.path.join(path, name)) for name in _GRAPH_FILES):
        raise ServingError(
            Code.NOT_FOUND,
            f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {path}. "
            "Check that the directory exists and that you have the right permissions for "
            "accessing it.",
        )
    with session.graph.as_default():
        with paths.readable_by_tensorflow(path) as readable:
            try:
                return tf.compat.v1.saved_model.load(session, list(tags), readable)
            except ValueError as error:
                # The graph is there. As in a model server every request fails at a variable, or the
                # warm-up does, and with it the load.
                found = _read_graph(path, tags)
                there = os.path.exists(os.path.join(path, _VARIABLES))
                if found is None or there or "not a valid checkpoint" not in str(error):
                    raise
                return found


def _load_error(error: Exception) -> ServingError:
    """Status of a failed load."""
    if isinstance(error, OSError) and not hasattr(error, "error_code"):
        return ServingError(Code.DATA_LOSS, f"Can't parse the SavedModel: {error}")
    if isinstance(error, RuntimeError) and "could not be found in SavedModel" in str(error):
        return ServingError(
            Code.NOT_FOUND, f"Could not find meta graph def matching supplied tags: {error}"
        )
    if isinstance(error, ValueError) and "not a valid checkpoint" in str(error):
        return ServingError(Code.NOT_FOUND, f"Could not find the variables of the model: {error}")
    return from_exception(error)


def _signatures_without_op(
    path: str, tags: Sequence[str], message: str
) -> dict[str, meta_graph_pb2.SignatureDef] | None:
    """Signatures of a SavedModel that does not load because a function needs an unknown op.

    None if that is not why it does not load.
    """
    found = _MISSING_OP.match(message)
    if found is None:
        return None
    meta_graph = _read_graph(path, tags)
    if meta_graph is None or any(node.op == found[1] for node in meta_graph.graph_def.node):
        return None
    return _copy(meta_graph.signature_def)


def _read_graph(path: str, tags: Sequence[str]) -> meta_graph_pb2.MetaGraphDef | None:
    """The graph of these tags; None if it cannot be read or there is none."""
    try:
        with open(os.path.join(path, _GRAPH_FILES[0]), "rb") as file:
            saved_model = saved_model_pb2.SavedModel.FromString(file.read())
    except (OSError, DecodeError):
        return None
    graphs = saved_model.meta_graphs
    return next((g for g in graphs if set(g.meta_info_def.tags) == set(tags)), None)


def _copy(
    signatures: Mapping[str, meta_graph_pb2.SignatureDef],
) -> dict[str, meta_graph_pb2.SignatureDef]:
    """Copies signatures, which else would keep the whole MetaGraphDef in memory."""
    copies = {}
    for name, signature in signatures.items():
        copies[name] = meta_graph_pb2.SignatureDef()
        copies[name].CopyFrom(signature)
    return copies
