"""From trained weights to versioned SavedModels (installed as ``vatt_tf.export``)."""
