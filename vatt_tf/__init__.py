"""vatt_tf: self-supervised video-audio-text Transformers (VATT) for TensorFlow and Keras."""

from __future__ import annotations

from typing import Any

from vatt_tf import native_log

__version__ = "0.1.0"

# Before TensorFlow is imported by any module of the package, also in a notebook.
native_log.limit()


def load(path: str, **kwargs: Any) -> Any:
    """Loads a trained model; see :func:`vatt_tf.api.load`."""
    from vatt_tf import api  # TensorFlow is imported only when it is needed.

    return api.load(path, **kwargs)
