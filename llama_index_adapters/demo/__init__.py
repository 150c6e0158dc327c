"""The documentation set and the demo."""
