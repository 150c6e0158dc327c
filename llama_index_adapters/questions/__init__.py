"""Questions, passages and which passage answers which question."""
