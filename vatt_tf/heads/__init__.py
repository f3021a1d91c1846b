"""Heads: from pooled features to the common spaces."""
