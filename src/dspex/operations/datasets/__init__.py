"""Stored data sets. Evaluations and optimizations may import it."""
