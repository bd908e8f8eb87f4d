"""The style sheets and the script of pages and notebooks, read once."""

import re
from functools import cache
from importlib.resources import files

_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_TOKEN = re.compile(r"--([\w-]+):\s*light-dark\(\s*([^,]+),")


@cache
def asset(name: str) -> str:
    """Return the text of a file of this room."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


@cache
def style_of(*names: str) -> str:
    """Return style sheets one after the other, without comments and indentation."""
    text = _COMMENT.sub("", "\n".join(map(asset, names)))
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())


@cache
def light_tokens() -> dict[str, str]:
    """Return the colours of the light theme by name, for drawings that stand alone."""
    return dict(_TOKEN.findall(asset("tokens.css")))
