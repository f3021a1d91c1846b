"""The training loop: strategies, schedules, gradient caching, checkpoints, health checks."""
