"""`dspex workspace`: create, archive, reopen, configure and list tenants."""

from dspex.surfaces.cli.nouns import noun_group

workspace_command = noun_group("workspace", of_all=True)
