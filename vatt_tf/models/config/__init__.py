"""Configurations of models and towers."""
