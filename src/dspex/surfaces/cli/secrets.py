"""`dspex secrets`: store and list the keys of model providers."""

from dspex.operations.domain import DOMAIN
from dspex.surfaces.cli.verbs import resource_group

secrets_command = resource_group(
    "secrets", DOMAIN["secret"], "Keys of model providers, by reference or encrypted."
)
