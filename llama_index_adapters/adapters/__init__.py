"""Adapter families: how each is served, learned and stored on disk."""
