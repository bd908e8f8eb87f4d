"""What browsers are told about a page of the server."""

import hashlib
import re
from base64 import b64encode
from typing import Final

from dspex.surfaces.api.gateway import BROWSER_HEADERS

_BLOCK: Final = rb"<%b>(.*?)</%b>"


def page_headers(page: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """Return the headers of an HTML page: it runs its own scripts and styles, and asks this server and no other."""
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
    others = tuple(pair for pair in BROWSER_HEADERS if pair[0] != policy[0])
    return (*others, policy, (b"referrer-policy", b"no-referrer"), (b"cache-control", b"no-cache"))


def _sources(page: bytes, tag: bytes) -> bytes:
    blocks = re.findall(_BLOCK % (tag, tag), page, re.DOTALL)
    hashes = (b64encode(hashlib.sha256(block).digest()) for block in blocks)
    return b" ".join(b"'sha256-%b'" % digest for digest in hashes) or b"'none'"
