"""The GraphQL schema: one object type for each resource, one mutation for each action."""

from dspex.surfaces.api.graphql.schema import make_schema

__all__ = ["make_schema"]
