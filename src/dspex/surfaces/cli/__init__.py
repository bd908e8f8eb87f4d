"""The command line. `main` is the entry point; everything heavy is imported by the command that needs it."""

from dspex.surfaces.cli.main import main

__all__ = ["main"]
