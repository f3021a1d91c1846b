"""Numbers from outputs; NumPy only."""
