"""Replicas and workers: strategy, watch, preemption."""
