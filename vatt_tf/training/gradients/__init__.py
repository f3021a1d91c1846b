"""Gradients of a step: contrastive (gradient caching), classification, and their summation."""
