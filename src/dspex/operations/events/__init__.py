"""The log of committed events, and feeds that follow it. Programs and later rooms may import it."""
