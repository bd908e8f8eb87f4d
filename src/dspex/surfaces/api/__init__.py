"""The network side: GraphQL over HTTP, derived from the resources and their actions."""

from dspex.surfaces.api.app import application

__all__ = ["application"]
