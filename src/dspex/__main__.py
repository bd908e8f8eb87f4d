"""`python -m dspex` is the command line."""

from dspex.surfaces.cli import main

main()
