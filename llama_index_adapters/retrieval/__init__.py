"""Exact retrieval in numpy: relevance, ranking and metrics, question sets as vectors."""
