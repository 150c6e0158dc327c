"""Maps from the space of one model into that of another, from passages that both embedded."""
