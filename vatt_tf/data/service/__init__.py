"""The tf.data service that several trainers share."""
