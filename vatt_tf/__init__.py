"""vatt_tf: self-supervised video-audio-text Transformers (VATT) for TensorFlow and Keras."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"


def load(path: str, **kwargs: Any) -> Any:
    """Loads a trained model; see :func:`vatt_tf.api.load`."""
    from vatt_tf import api  # TensorFlow is imported only when it is needed.

    return api.load(path, **kwargs)
