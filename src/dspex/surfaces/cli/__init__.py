"""The command line. `main` is the entry point; each command imports what it needs."""

from dspex.surfaces.cli.main import main

__all__ = ["main"]
