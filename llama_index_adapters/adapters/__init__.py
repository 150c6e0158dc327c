"""Adapter families: how each is served, learned and kept on disk."""
