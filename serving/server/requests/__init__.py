"""Requests of the gRPC API."""
