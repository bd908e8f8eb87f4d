"""`dspex session`: begin, show, compact and delete conversations."""

from dspex.surfaces.cli.nouns import noun_group

session_command = noun_group("session")
