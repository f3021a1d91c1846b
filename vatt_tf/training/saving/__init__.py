"""Outputs of a run: checkpoints, best weights, files of the run directory."""
