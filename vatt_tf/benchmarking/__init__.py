"""What a configuration costs on this machine, measured: see ``python -m vatt_tf.benchmark``."""
