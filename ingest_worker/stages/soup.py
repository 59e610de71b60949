"""The tree of a page, in which elements end where HTML says so, also when their end tags are left out.

Python's parser, which BeautifulSoup uses here, ends an element by its end tag or with the one around it: a list whose
items have none becomes a staircase.
"""

from __future__ import annotations

from typing import Any

from bs4 import BeautifulSoup, Tag

_NAMES_OF_BLOCKS = """
    address article aside blockquote center dd details dialog dir div dl dt fieldset figcaption figure footer form h1 h2
    h3 h4 h5 h6 header hgroup hr li main menu nav ol p pre search section summary table ul
"""

#: What can't be in a paragraph.
_BLOCKS = set(_NAMES_OF_BLOCKS.split())

#: What begins with the first ends the second, but none that is around one of the third (HTML Standard, 13.1.2.4).
_RULES = (
    (["li"], {"li"}, {"ul", "ol", "menu"}),
    (["dt", "dd"], {"dt", "dd"}, {"dl"}),
    (["td", "th"], {"td", "th"}, {"tr", "table"}),
    (["tr"], {"tr", "td", "th", "caption", "colgroup"}, {"table"}),
    (["thead", "tbody", "tfoot"], {"thead", "tbody", "tfoot", "tr", "td", "th", "caption", "colgroup"}, {"table"}),
    (["option", "optgroup"], {"option"}, {"select", "datalist"}),
    (_BLOCKS, {"p"}, {"td", "th", "caption", "table", "button", "object", "template"}),
)

#: So far up it is looked for: what is nested deeper was not left open by mistake, and looking has a price.
_LEVELS = 64


class Soup(BeautifulSoup):
    """The tree of HTML."""

    def __init__(self, html: str) -> None:
        super().__init__(html, "html.parser")

    def handle_starttag(self, name: str, *args: Any, **more: Any) -> Tag | None:
        """Called by the parser; a method that BeautifulSoup documents for that."""
        for names, ended, around in _RULES:
            if name in names:
                self._end(ended, around)
        return super().handle_starttag(name, *args, **more)

    def _end(self, ended: set[str], around: set[str]) -> None:
        tag: Tag | None = self.currentTag
        outermost = None
        for _ in range(_LEVELS):
            if tag is None or tag.name in around:
                break
            if tag.name in ended:
                outermost = tag
            tag = tag.parent
        if outermost is None:
            return
        self.endData()  # the text before it belongs to what ends
        while self.currentTag is not outermost:
            self.popTag()
        self.popTag()
