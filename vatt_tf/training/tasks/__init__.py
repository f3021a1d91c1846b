"""Training tasks: pre-training and fine-tuning."""
