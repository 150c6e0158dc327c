"""What tells one model from another: everything that can change an answer."""
