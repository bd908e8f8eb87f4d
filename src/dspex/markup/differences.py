"""The words in which two texts differ."""

import re
from difflib import SequenceMatcher

from dspex.markup.elements import Markup, element, join

_WORDS = re.compile(r"\w+|\s+|[^\w\s]")
_MOST_WORDS = 1500  # beyond it, matching takes seconds


def marked_words(expected: str, actual: str) -> tuple[Markup, Markup]:
    """Return both texts with marks: `ins` for words missing in `actual`, `del` for wrong ones.

    Texts that are very long, or that share little, are marked as a whole.
    """
    left, right = _WORDS.findall(expected), _WORDS.findall(actual)
    matcher = SequenceMatcher(None, left, right, autojunk=False)
    is_long = len(left) + len(right) > _MOST_WORDS
    if is_long or matcher.quick_ratio() < 0.4 or matcher.ratio() < 0.4:
        return _mark("ins", expected), _mark("del", actual)
    before, after = list[Markup](), list[Markup]()
    for operation, start, end, other_start, other_end in matcher.get_opcodes():
        old, new = "".join(left[start:end]), "".join(right[other_start:other_end])
        before.append(join(old) if operation == "equal" else _mark("ins", old))
        after.append(join(new) if operation == "equal" else _mark("del", new))
    return join(before), join(after)


def _mark(name: str, text: str) -> Markup:
    return element(name, text) if text else Markup()
