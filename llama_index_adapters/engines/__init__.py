"""Engines: from questions to an embedding model for any retriever."""
