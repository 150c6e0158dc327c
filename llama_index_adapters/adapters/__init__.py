"""What is learned: adapter families."""
