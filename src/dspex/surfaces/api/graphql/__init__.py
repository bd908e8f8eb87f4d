"""GraphQL: a schema derived from resources and actions, and the engine that runs documents."""

from dspex.surfaces.api.graphql.context import GraphQLContext
from dspex.surfaces.api.graphql.engine import Engine, GraphQLRequest
from dspex.surfaces.api.graphql.schema import core_schema, make_schema

__all__ = ["Engine", "GraphQLContext", "GraphQLRequest", "core_schema", "make_schema"]
