"""Optimizations as jobs. Only `domain`, storage, bootstrap and surfaces may import it."""
