"""`dspex workspaces`: create, list and change workspaces."""

from dspex.operations.domain import DOMAIN
from dspex.surfaces.cli.verbs import resource_group

workspaces_command = resource_group(
    "workspaces", DOMAIN["workspace"], "Tenants; none sees the rows of another."
)
