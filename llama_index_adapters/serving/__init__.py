"""Serving: a saved adapter as an embedding model."""
