"""The search for the adapter: a plan of trials, judged on held-out queries."""
