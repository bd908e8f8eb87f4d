"""How deep containers may be nested."""

from typing import Any

DEPTH_LIMIT = 200


def is_too_deep(value: Any) -> bool:
    """Whether containers in `value` are nested deeper than `DEPTH_LIMIT`."""
    level = [value] if isinstance(value, dict | list | tuple) else []
    for _ in range(DEPTH_LIMIT):
        if not level:
            return False
        # by identity, so that shared and circular parts are visited once
        level = list({id(child): child for part in level for child in _children(part)}.values())
    return True


def _children(part: Any) -> list[Any]:
    inside = part.values() if isinstance(part, dict) else part
    return [child for child in inside if isinstance(child, dict | list | tuple)]
