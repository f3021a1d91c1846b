"""Layers of the towers: patch embedding, positions, DropToken, attention, Transformer."""
