"""What is learned: torch modules, one file for each family."""
