"""Runs stored programs and records each run.

Datasets and later rooms may import it; jobs may not.
"""
