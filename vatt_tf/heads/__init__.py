"""Heads: features to common spaces or classes. Importing the package registers the heads."""

from vatt_tf.heads import common_space, mmv

__all__ = ["common_space", "mmv"]
