"""How large a declaration may be: one table of limits, and one error for all of them.

Whoever writes a signature, a caller of an API included, meets the same limits. They keep the work of reading,
compiling and checking within a fraction of a second.
"""

from dataclasses import dataclass
from typing import Final

from dspex.errors import SignatureError


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeLimit:
    """One row of the table: what is counted, and the greatest amount that is accepted."""

    what: str
    most: int


LIMITS: Final[dict[str, SizeLimit]] = {
    "text": SizeLimit(what="characters in the string form of a signature or type", most=100_000),
    "name": SizeLimit(what="characters in the name of a field, member or object", most=200),
    "fields": SizeLimit(what="fields in a signature", most=1_000),
    "members": SizeLimit(what="members in an object", most=1_000),
    "parts": SizeLimit(what="types within a signature, those inside other types included", most=20_000),
    "depth": SizeLimit(what="levels of types inside each other", most=100),
    "alternatives": SizeLimit(what="alternatives in a union without a tag", most=100),
    "choices": SizeLimit(what="values in a choice", most=10_000),
    "pattern": SizeLimit(what="characters in a pattern", most=4_000),
    "pattern_states": SizeLimit(what="states in a compiled pattern", most=60_000),
    "all_pattern_states": SizeLimit(what="states in all patterns of a signature", most=120_000),
}
MAX_ERRORS: Final = 100  # a list of a million wrong items is one mistake, not a million
PATTERN_WORK: Final = 300_000_000  # characters times states: a tenth of a second


def check_limit(name: str, amount: int, where: str) -> None:
    """Raise unless `amount` keeps the limit `name`.

    Raises:
        SignatureError: it does not; the message begins with `where`, and `context["limit"]` is the limit's name.
    """
    limit = LIMITS[name]
    if amount > limit.most:
        raise SignatureError(f"{where}: {amount} {limit.what}, more than the {limit.most} allowed", limit=name)
