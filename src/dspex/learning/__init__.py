"""How a program improves: evaluation and optimization."""
