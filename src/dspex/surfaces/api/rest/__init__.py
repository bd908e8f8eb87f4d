"""REST: a route for each resource and each action, derived from the domain, and the fast way to execute."""

from dspex.surfaces.api.rest.openapi import openapi
from dspex.surfaces.api.rest.routes import Desk, routes
from dspex.surfaces.api.rest.state import state_routes

__all__ = ["Desk", "openapi", "routes", "state_routes"]
