"""`dspex keys`: create, list and revoke the API keys of a server."""

from dspex.operations.domain import DOMAIN
from dspex.surfaces.cli.verbs import resource_group

keys_command = resource_group("keys", DOMAIN["api_key"], "Keys of the callers of a server.")
