"""Is the adapter better, and how sure are we."""
