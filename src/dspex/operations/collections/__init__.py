"""Stored collections: documents, their chunks, ingestion and search.

Evaluations, optimizations and everything above may import it.
"""
