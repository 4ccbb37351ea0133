"""What is asked of every peer: a module a question."""
