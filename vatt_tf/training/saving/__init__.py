"""What a run leaves: checkpoints, the best weights, its folder."""
