"""Size limits of declarations: one table, and one error for all of them.

The same limits apply to every author of a signature, including callers of an API. They keep
reading, compiling and checking within a fraction of a second.
"""

from dataclasses import dataclass
from typing import Final

from dspex.errors import SignatureError


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeLimit:
    """One row: what is counted, and the maximum."""

    what: str
    most: int


LIMITS: Final[dict[str, SizeLimit]] = {
    "text": SizeLimit(what="characters in the string form of a signature or type", most=100_000),
    "name": SizeLimit(what="characters in the name of a field, member or object", most=200),
    "fields": SizeLimit(what="fields in a signature", most=1_000),
    "members": SizeLimit(what="members in an object", most=1_000),
    "parts": SizeLimit(
        what="types within a signature, those inside other types included", most=20_000
    ),
    "depth": SizeLimit(what="levels of types inside each other", most=100),
    "alternatives": SizeLimit(what="alternatives in a union without a tag", most=100),
    "choices": SizeLimit(what="values in a choice", most=10_000),
    "pattern": SizeLimit(what="characters in a pattern", most=4_000),
    "pattern_states": SizeLimit(what="states in a compiled pattern", most=60_000),
    "all_pattern_states": SizeLimit(what="states in all patterns of a signature", most=120_000),
}
MAX_ERRORS: Final = 100  # a list of a million wrong items is one mistake
PATTERN_WORK: Final = 300_000_000  # characters times states: a tenth of a second


def check_limit(name: str, amount: int, where: str) -> None:
    """Raise if `amount` exceeds the limit `name`.

    Raises:
        SignatureError: the message begins with `where`; `context["limit"]` names the limit.
    """
    limit = LIMITS[name]
    if amount > limit.most:
        raise SignatureError(
            f"{where}: {amount} {limit.what}, more than the {limit.most} allowed", limit=name
        )
