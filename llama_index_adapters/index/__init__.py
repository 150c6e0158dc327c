"""Train from an index that exists: its stored vectors and texts, read in pages."""
