"""A self-contained page: it requests nothing, and runs no script but its own."""

import base64
import hashlib

from dspex.markup.elements import Content, Markup, element, join
from dspex.markup.styles import asset, style_of


def page(title: str, *contents: Content, eyebrow: str = "") -> str:
    """Return a document with a heading, in the theme of the reader's system.

    Its content security policy allows the page's own style and script by their hashes only: even
    text that escaping missed could not run or load anything.
    """
    style, script = style_of("tokens.css", "content.css", "page.css"), asset("page.js")
    policy = (
        f"default-src 'none'; style-src 'sha256-{_hash(style)}'; "
        f"script-src 'sha256-{_hash(script)}'; base-uri 'none'; form-action 'none'"
    )
    head = (
        element("meta", charset="utf-8"),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Markup(style)),
    )
    heading = element(
        "header", element("p", eyebrow, class_="eyebrow") if eyebrow else None, element("h1", title)
    )
    body = (element("main", heading, *contents), element("script", Markup(script)))
    html = element("html", element("head", head), element("body", body), lang="en", class_="dspex")
    return join(Markup("<!doctype html>\n"), html)


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
