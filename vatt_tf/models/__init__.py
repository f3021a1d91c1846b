"""Whole models: towers and heads, their configurations and their cost."""
