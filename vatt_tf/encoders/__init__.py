"""Towers: raw video, audio or text to tokens and one pooled feature."""
