"""Files: read safely, replaced whole."""
