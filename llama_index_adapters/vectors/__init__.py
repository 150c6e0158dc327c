"""Texts become vectors, once."""
