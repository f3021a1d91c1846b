"""Replicas and workers: strategy, worker failure, preemption."""
