"""Layers of the convolutional towers."""
