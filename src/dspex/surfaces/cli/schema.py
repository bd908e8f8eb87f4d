"""`dspex schema`: the schemas of the API, and the JSON Schema of `dspex.toml`."""

from collections.abc import Callable
from typing import Any, Final

import click

from dspex.settings import config_schema
from dspex.surfaces.cli.output import show_json


def _of_domain(path: str) -> Any:
    """Return what a function of the API ("module:name") makes of the domain of the settings."""
    from dspex.bootstrap import domain_of
    from dspex.surfaces.cli.options import settings_of
    from dspex.surfaces.cli.serve import server_parts
    from dspex.surfaces.cli.targets import code_root

    [describe] = server_parts(path).values()
    return describe(domain_of(settings_of(), code_root()))


_SUBJECTS: Final[dict[str, Callable[[], None]]] = {
    "config": lambda: show_json(config_schema()),
    "graphql": lambda: click.echo(_of_domain("dspex.surfaces.api.graphql:make_schema").as_str()),
    "openapi": lambda: show_json(_of_domain("dspex.surfaces.api.rest:openapi")),
}


@click.command("schema")
@click.argument("subject", type=click.Choice([*_SUBJECTS]))
def schema_command(*, subject: str) -> int:
    """Print the schema of the GraphQL API, of the REST API, or of dspex.toml.

    The schemas of the API have your own resources too, if dspex.toml names a domain. A running
    server also describes the stored programs: see /v1/openapi.json.

    \b
    dspex schema graphql > schema.graphql
    dspex schema openapi > openapi.json
    dspex schema config > dspex.schema.json
    then, as the first line of dspex.toml: #:schema ./dspex.schema.json
    """  # noqa: D301  # \b is click's mark for lines that it does not wrap
    _SUBJECTS[subject]()
    return 0
