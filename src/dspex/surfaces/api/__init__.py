"""The network side: GraphQL and REST over HTTP, derived from the resources and their actions."""

from dspex.surfaces.api.app import application
from dspex.surfaces.api.gateway import ServerConfig

__all__ = ["ServerConfig", "application"]
