"""Optimizers, schedules, learning rates of layers."""
