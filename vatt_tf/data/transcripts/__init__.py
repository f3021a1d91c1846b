"""Captions by speech recognition, and those of other recognisers."""
