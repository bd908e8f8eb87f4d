"""A piece of HTML for a notebook, with the styles that it needs."""

from dspex.markup.elements import Content, Markup, element, join
from dspex.markup.styles import style_of


def fragment(*contents: Content) -> Markup:
    """Return contents with their styles, in the theme of the notebook around them.

    Each output carries its styles, because a saved notebook may be cut, copied or exported.
    """
    style = element("style", Markup(style_of("tokens.css", "content.css", "notebook.css")))
    return join(element("div", style, *contents, class_="dspex notebook"))
