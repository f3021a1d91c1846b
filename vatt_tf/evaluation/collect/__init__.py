"""Outputs of a model over a data set."""
