"""Monitoring of a run: progress and health checks."""
