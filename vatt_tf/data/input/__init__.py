"""From records to batches: order, sampling, augmentation, the tf.data pipeline."""
