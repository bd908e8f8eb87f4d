"""The feedback of end users, who have a signed link instead of a key."""

from typing import Final
from urllib.parse import parse_qsl

from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from dspex.operations.evaluations.feedback_actions import FEEDBACK_PATH
from dspex.operations.evaluations.feedback_inputs import FeedbackValues
from dspex.operations.evaluations.feedback_rows import LARGEST_CORRECTION, feedback_by_link
from dspex.surfaces.api.gateway import Authenticator, session_of
from dspex.surfaces.api.requests import parse_input, read_body
from dspex.surfaces.api.responses import send_json
from dspex.surfaces.api.rest import ApiContext
from dspex.surfaces.api.rest.routes import route

_BYTES: Final = LARGEST_CORRECTION + 64 * 1024


def feedback_route(api: ApiContext, authenticator: Authenticator) -> Route:
    """Return the route that stores feedback; the page at its path is one of `page_routes`."""

    async def store(scope: Scope, receive: Receive, send: Send) -> None:
        peer = session_of(authenticator, scope).peer
        with authenticator.link_call(_token(scope), peer=peer) as claims:
            limit = min(_BYTES, api.config.body_bytes)
            body = await read_body(scope, receive, limit=limit)
            values = parse_input(FeedbackValues, body)
            row = await feedback_by_link(api.services().operations, claims, values)
        names = ("score", "label", "correction", "comment")
        await send_json(send, {name: getattr(row, name) for name in names})

    return route(FEEDBACK_PATH, store, "POST")


def _token(scope: Scope) -> str:
    """Return the token of a link; an empty text unless there is exactly one."""
    pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    return pairs[0][1] if len(pairs) == 1 and pairs[0][0] == "link" else ""
