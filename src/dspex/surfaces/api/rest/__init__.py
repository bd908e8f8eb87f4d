"""REST: a route for each resource and action, derived from the domain, and a fast one to execute."""

from dspex.surfaces.api.rest.health import health_routes
from dspex.surfaces.api.rest.openapi import openapi
from dspex.surfaces.api.rest.routes import ApiContext, routes

__all__ = ["ApiContext", "health_routes", "openapi", "routes"]
