"""Maps between the spaces of two models, learned from passages that both embedded."""
