"""Questions about passages, asked of a language model."""
