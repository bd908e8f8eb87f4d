"""The GraphQL schema: one object type for each resource, one mutation for each action; and what runs documents."""

from dspex.surfaces.api.graphql.engine import Asked, Engine
from dspex.surfaces.api.graphql.request import Request
from dspex.surfaces.api.graphql.schema import core_of, make_schema

__all__ = ["Asked", "Engine", "Request", "core_of", "make_schema"]
