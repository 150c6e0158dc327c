"""How an adapter is learned."""
