"""Evaluations as jobs, and the environment of all job handlers. Optimizations may import it."""
