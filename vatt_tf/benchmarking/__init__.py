"""Benchmarks of a configuration on this machine: see ``python -m vatt_tf.benchmark``."""
