"""HTML for reports and notebooks: escaped elements, small drawings, one set of design tokens.

It knows no class of dspex and imports nothing; every room may use it, and loads it only on use.
"""

from dspex.markup.differences import marked_words
from dspex.markup.drawings import interval_drawing, share_drawing
from dspex.markup.elements import Content, Markup, element, join
from dspex.markup.fragment import fragment
from dspex.markup.page import page
from dspex.markup.parts import badge, facts, folded, preformatted, shown_value, table, value_text

__all__ = [
    "Content",
    "Markup",
    "badge",
    "element",
    "facts",
    "folded",
    "fragment",
    "interval_drawing",
    "join",
    "marked_words",
    "page",
    "preformatted",
    "share_drawing",
    "shown_value",
    "table",
    "value_text",
]
