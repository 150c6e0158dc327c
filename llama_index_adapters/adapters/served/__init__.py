"""What serves a query: numpy alone, one class for each built-in family."""
