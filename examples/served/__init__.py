"""Postgres, an index in it, an adapter and an HTTP endpoint, started by one command."""
