"""Applications to read and to start."""
