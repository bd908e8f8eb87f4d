"""Reads HTML strictly.

Every element is closed, and every attribute is one that the page's author wrote.
"""

import base64
import hashlib
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"br", "hr", "input", "meta", "link", "path", "circle", "rect", "line"}


@dataclass
class Element:
    name: str
    attributes: dict[str, str | None]
    parent: "Element | None" = None
    children: list["Element | str"] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(part if isinstance(part, str) else part.text for part in self.children)

    @property
    def classes(self) -> set[str]:
        return set((self.attributes.get("class") or "").split())

    @property
    def elements(self) -> list["Element"]:
        return [part for part in self.children if isinstance(part, Element)]

    def all(self, name: str = "", class_: str = "") -> list["Element"]:
        every = [match for part in self.elements for match in (part, *part.all())]
        return [
            part
            for part in every
            if (not name or part.name == name) and (not class_ or class_ in part.classes)
        ]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = self.place = Element("", {})

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute of <{tag}> occurs twice: {attrs}"
        element = Element(tag, dict(attrs), self.place)
        self.place.children.append(element)
        if tag not in {"meta", "input", "br", "hr", "link"}:
            self.place = element

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.place.children.append(Element(tag, dict(attrs), self.place))

    def handle_endtag(self, tag: str) -> None:
        assert tag == self.place.name, f"</{tag}> closes <{self.place.name}>"
        assert self.place.parent is not None
        self.place = self.place.parent

    def handle_data(self, data: str) -> None:
        self.place.children.append(data)


def read_html(text: str) -> Element:
    """Return the root, after checking that all elements are closed in order and ids are unique."""
    reader = _Reader()
    reader.feed(text)
    reader.close()
    assert reader.place is reader.root, f"<{reader.place.name}> is not closed"
    ids = [part.attributes["id"] for part in reader.root.all() if "id" in part.attributes]
    assert len(set(ids)) == len(ids)
    return reader.root


def check_self_contained(text: str) -> Element:
    """Return the root of a page that requests nothing and runs its own script only."""
    root = read_html(text)
    text.encode()  # no lone surrogates
    for part in root.all():
        assert part.name not in {
            "link",
            "iframe",
            "object",
            "embed",
            "img",
            "base",
            "foreignobject",
        }
        for name, value in part.attributes.items():
            assert not name.startswith("on"), f"<{part.name} {name}={value!r}>"
            assert name not in {"src", "srcset", "style", "action", "formaction", "xlink:href"}
            assert name != "href" or (value or "").startswith("#")
    styles, scripts = root.all("style"), root.all("script")
    assert len(scripts) == 1
    policy = next(
        part.attributes["content"] or ""
        for part in root.all("meta")
        if part.attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'")
    for part in (*styles, *scripts):
        digest = base64.b64encode(hashlib.sha256(part.text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert not re.search(r"url\(|@import", "".join(part.text for part in styles))
    return root
