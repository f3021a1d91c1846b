"""A step's gradients: contrastive (GradCache), classification, their sums."""
