"""`dspex key`: create, rotate, revoke and list the keys of a server's callers."""

from dspex.surfaces.cli.nouns import noun_group

key_command = noun_group(
    "api_key",
    columns=("name", "workspace", "status", "scopes", "expires_at", "last_used_at", "id"),
    of_all=True,
)
