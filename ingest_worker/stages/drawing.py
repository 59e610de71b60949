"""What a page draws, in pdfplumber's words, made in one step.

pdfminer makes an object of each character and pdfplumber describes the object, in two dozen attributes: that takes
longer than to read the page. Here a character is described where it is drawn, in the thirteen attributes that text and
tables need, with the same numbers. Characters that are turned or run downwards are pdfminer's objects first, as ever.
"""

from __future__ import annotations

from typing import Any

from pdfminer.converter import PDFPageAggregator
from pdfminer.layout import LTChar, LTCurve, LTLine, LTRect
from pdfminer.pdffont import PDFUnicodeNotDefined

from ingest_worker.stages.content import Interpreter

#: pdfplumber's description of a thing on a page.
Described = dict[str, Any]

#: The one code that word spacing is for.
SPACE = 32


class Drawing(PDFPageAggregator):
    """Takes down what a page of pdfplumber's draws. ``characters`` are described; the rest is in pdfminer's layout.

    Images are left out: no text and no ruled table is made of them. Nor does it matter which form a thing is in.
    """

    def __init__(self, page: Any) -> None:
        super().__init__(page.pdf.rsrcmgr, page.page_number)
        self.characters: list[Described] = []
        self._page = page
        self._glyphs: dict[Any, dict[int, tuple[str, float]]] = {}

    def begin_figure(self, *_: Any) -> None:
        """What is drawn in a form is drawn on the page."""

    def end_figure(self, *_: Any) -> None:
        """See `begin_figure`."""

    def render_image(self, *_: Any) -> None:
        """No text is made of it."""

    def render_char(self, *args: Any, **kwargs: Any) -> float:
        """A character that is not upright, from pdfminer's object."""
        advance = super().render_char(*args, **kwargs)
        self.characters.append(described(self._page, self.cur_item._objs.pop()))  # noqa: SLF001 - it was put there now
        return advance

    def render_string_horizontal(self, seq: Any, matrix: Any, pos: Any, *state: Any) -> Any:
        """A line of text. Where nothing turns it, its characters differ only in their text and from left to right."""
        scale, turn, turn_back, height, right, up = matrix
        if turn or turn_back:
            return super().render_string_horizontal(seq, matrix, pos, *state)
        (x, y), (font, size, scaling, charspace, wordspace, rise, dxscale) = pos, state[:7]
        base, up = font.get_descent() * size + rise, y * height + up
        common = self._of_a_line(height * base + up, height * (base + size) + up)
        common["upright"] = scale * height * scaling > 0
        left, glyphs, space_due = self._page.mediabox[0], self._glyphs.setdefault(font, {}), False
        for piece in seq:
            if isinstance(piece, (int, float)):
                x -= piece * dxscale
                space_due = True
            elif isinstance(piece, bytes):
                for cid in font.decode(piece):
                    if space_due:
                        x += charspace
                    text, width = glyphs.get(cid) or self._glyph(glyphs, font, cid)
                    advance = width * size * scaling
                    begin = x * scale + right
                    end = scale * advance + begin
                    if end < begin:
                        begin, end = end, begin
                    character = common.copy()
                    character["x0"], character["x1"], character["width"] = begin + left, end + left, end - begin
                    character["text"] = text
                    self.characters.append(character)
                    x += advance
                    if wordspace and cid == SPACE:
                        x += wordspace
                    space_due = True
        return x, y

    def _of_a_line(self, one: float, other: float) -> Described:
        """What the characters between these heights have in common, and a place for the rest."""
        bottom, top = sorted((one, other))
        return described_box(self._page, "char", (0, bottom, 0, top)) | {"text": "", "size": top - bottom}

    def _glyph(self, glyphs: dict[int, tuple[str, float]], font: Any, cid: int) -> tuple[str, float]:
        try:
            text = font.to_unichr(cid)
        except PDFUnicodeNotDefined:
            text = self.handle_undefined_char(font, cid)
        glyphs[cid] = text, font.char_width(cid)
        return glyphs[cid]


def described(page: Any, item: Any) -> Described:
    """A thing on pdfplumber's ``page``, made of pdfminer's object. Places are in points, y downwards."""
    if isinstance(item, LTCurve) and not isinstance(item, (LTLine, LTRect)):
        return dict(page.process_object(item))
    kind = "char" if isinstance(item, LTChar) else "rect" if isinstance(item, LTRect) else "line"
    thing = described_box(page, kind, item.bbox)
    if isinstance(item, LTChar):
        thing |= {"text": item.get_text(), "size": item.size, "upright": item.upright}
    return thing


def described_box(page: Any, kind: str, box: tuple[float, float, float, float]) -> Described:
    """The attributes that all things have. ``box`` is left, bottom, right, top in points, y upwards."""
    left, above = page.mediabox[:2]
    x0, y0, x1, y1 = box
    top = page.height - y1 + above
    return {
        "object_type": kind,
        "x0": x0 + left,
        "x1": x1 + left,
        "y0": y0,
        "y1": y1,
        "top": top,
        "bottom": page.height - y0 + above,
        "doctop": page.initial_doctop + top,
        "width": x1 - x0,
        "height": y1 - y0,
    }


def objects(page: Any) -> dict[str, list[Described]]:
    """Everything on pdfplumber's ``page``, by kind. Raises whatever pdfminer raises."""
    drawing = Drawing(page)
    Interpreter(page.pdf.rsrcmgr, drawing).process_page(page.page_obj)
    found: dict[str, list[Described]] = {"char": drawing.characters, "line": [], "rect": [], "curve": []}
    for item in drawing.get_result():
        thing = described(page, item)
        found[thing["object_type"]].append(thing)
    return found
