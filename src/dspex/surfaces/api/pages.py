"""The HTML pages of the server, and the headers that restrict what they may do."""

import hashlib
import re
from base64 import b64encode
from importlib.resources import files
from typing import Final

from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from dspex.markup.styles import style_of
from dspex.surfaces.api.gateway import BROWSER_HEADERS
from dspex.surfaces.api.responses import send_bytes
from dspex.surfaces.api.rest.routes import route

PAGES: Final = ("/explorer", "/docs", "/feedback")
"""The paths of pages, each a file in `static`: GraphQL, REST, and the feedback of end users."""
_BLOCK: Final = rb"<%b>(.*?)</%b>"


def page_routes() -> list[Route]:
    """Return the routes of the pages, and of `/`, which redirects to the explorer."""

    async def home(_scope: Scope, _receive: Receive, send: Send) -> None:
        location = ((b"location", b"/explorer"),)
        await send_bytes(send, b"", status=307, headers=location, kind=b"text/plain")

    return [route("/", home, "GET"), *(_page_route(path) for path in PAGES)]


def _page_route(path: str) -> Route:
    text = files("dspex.surfaces.api").joinpath(f"static{path}.html").read_text(encoding="utf-8")
    page = text.replace("/* tokens */", style_of("tokens.css")).encode()
    browser_headers = page_headers(page)

    async def answer(scope: Scope, _receive: Receive, send: Send) -> None:
        scope["browser_headers"] = browser_headers
        await send_bytes(send, page, kind=b"text/html; charset=utf-8")

    return route(path, answer, "GET")


def page_headers(page: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """Return headers that allow a page its own scripts and styles, and requests to this server."""
    parts = [
        b"default-src 'none'",
        b"script-src " + _sources(page, b"script"),
        b"style-src " + _sources(page, b"style"),
        b"connect-src 'self'",
        b"base-uri 'none'",
        b"form-action 'none'",
        b"frame-ancestors 'none'",
    ]
    policy = (b"content-security-policy", b"; ".join(parts))
    headers = tuple(pair for pair in BROWSER_HEADERS if pair[0] != policy[0])
    return (*headers, policy, (b"referrer-policy", b"no-referrer"), (b"cache-control", b"no-cache"))


def _sources(page: bytes, tag: bytes) -> bytes:
    blocks = re.findall(_BLOCK % (tag, tag), page, re.DOTALL)
    hashes = (b64encode(hashlib.sha256(block).digest()) for block in blocks)
    return b" ".join(b"'sha256-%b'" % digest for digest in hashes) or b"'none'"
