"""Services: what one that fails has said, and when to ask it again."""
