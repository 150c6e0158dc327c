"""Speed and size, beside what a user would run instead: ``python -m benchmarks.speed``."""
