"""How results, question sets and models show themselves in a notebook."""
