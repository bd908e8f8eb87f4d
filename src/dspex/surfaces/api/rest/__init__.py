"""REST: routes derived from resources and actions, and a fast one to execute a program."""

from dspex.surfaces.api.rest.health import health_routes
from dspex.surfaces.api.rest.openapi import openapi
from dspex.surfaces.api.rest.routes import ApiContext, routes

__all__ = ["ApiContext", "health_routes", "openapi", "routes"]
