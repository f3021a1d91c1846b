"""Published checkpoints of other code bases, read without that code."""
