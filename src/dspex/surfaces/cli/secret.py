"""`dspex secret`: store the keys of model providers, by reference or encrypted."""

from dspex.surfaces.cli.nouns import noun_group

secret_command = noun_group(
    "secret", columns=("name", "workspace", "status", "reference", "id"), of_all=True
)
