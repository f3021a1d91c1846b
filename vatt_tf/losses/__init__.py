"""Contrastive losses between modalities."""
