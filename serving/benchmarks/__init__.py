"""Latency and load of a server."""
