"""Evaluation tasks: retrieval, classification, probes, zero-shot classes."""
