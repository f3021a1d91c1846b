"""Layers of the Transformer towers."""
