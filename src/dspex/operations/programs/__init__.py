"""Stored programs, their versions, and signatures. Executions and later rooms may import it."""
