"""Embedded server, client and production kit for exported models (``vatt_tf.serving``)."""
