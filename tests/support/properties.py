"""How many examples a property is tried on."""

import os
from typing import Any

from hypothesis import settings

ALL_EXAMPLES = "DSPEX_TEST_EXAMPLES"  # set by `make test-slow`


def examples(count: int = 100, **options: Any) -> settings:
    """Try `count` examples in the slow layer, and a fifth of them otherwise."""
    number = count if ALL_EXAMPLES in os.environ else max(count // 5, 5)
    return settings(max_examples=number, deadline=None, **options)
