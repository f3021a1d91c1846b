"""The training loop: strategies, schedules, the two-pass step, checkpoints, guards."""
