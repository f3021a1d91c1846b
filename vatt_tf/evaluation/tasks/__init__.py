"""What can be evaluated: retrieval, classification, probes, zero-shot classes."""
