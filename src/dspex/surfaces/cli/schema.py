"""`dspex schema config`: the JSON Schema of `dspex.toml`."""

import click

from dspex.settings import config_schema
from dspex.surfaces.cli.output import show_json


@click.command("schema")
@click.argument("subject", type=click.Choice(("config",)))
def schema_command(*, subject: str) -> int:
    """Print the JSON Schema of dspex.toml, for editors and checks.

    \b
    dspex schema config > dspex.schema.json
    then, as the first line of dspex.toml: #:schema ./dspex.schema.json
    """  # noqa: D301  # \b is click's mark for lines that it does not wrap
    del subject  # the only one so far
    show_json(config_schema())
    return 0
