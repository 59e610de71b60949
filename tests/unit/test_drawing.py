"""A page is described as pdfplumber describes it, in fewer words."""

from __future__ import annotations

import io

import pdfplumber
import pytest
from pypdf import PdfReader, PdfWriter
from pypdf.generic import DecodedStreamObject, NameObject

from ingest_worker.stages import drawing
from tests import pdfs

ATTRIBUTES = ("x0", "x1", "y0", "y1", "top", "bottom", "doctop", "width", "height", "text", "size", "upright")

ODD_TEXT = b"""
BT /F1 12 Tf 2 Tc 5 Tw 90 Tz 3 Ts 72 700 Td (spaced and raised) Tj 0 Tc 0 Tw 100 Tz 0 Ts
0 -20 TD [(kern)-120(ed)30 (text)] TJ T* (next \\101\\) line) ' 1 0 0 1 72 600 Tm <48656C6C6F> Tj
0 1 -1 0 300 400 Tm (turned) Tj -1 0 0 1 300 300 Tm (mirrored) Tj 1 0 0 -1 300 250 Tm (upside down) Tj
1 0 .3 1 72 500 Tm (slanted) Tj 1 0 0 1 72 450 Tm (no such code: \\001\\377) Tj ET
q .5 0 0 2 10 10 cm BT /F1 -9 Tf 100 100 Td (scaled) Tj ET
100 120 50 10 re S 0 0 m 50 0 l S 0 0 m 10 20 30 40 50 0 c S Q
"""


def odd_text() -> bytes:
    """A page on which text is set in every way that fonts and matrices allow."""
    writer = PdfWriter(PdfReader(io.BytesIO(pdfs.prose(1))))
    contents = DecodedStreamObject()
    contents.set_data(ODD_TEXT)
    writer.pages[0][NameObject("/Contents")] = writer._add_object(contents)
    return written(writer)


def turned_and_shifted() -> bytes:
    """Pages with a table and Chinese, one turned, one whose media box does not begin at nought."""
    reader, writer = PdfReader(io.BytesIO(pdfs.prose(10))), PdfWriter()
    for number in (6, 9, 9):
        writer.add_page(reader.pages[number])
    writer.pages[2].rotate(90)
    writer.pages[1].mediabox.lower_left = (-20, -30)
    return written(writer)


def written(writer: PdfWriter) -> bytes:
    file = io.BytesIO()
    writer.write(file)
    return file.getvalue()


def in_our_words(things: dict[str, list[dict]]) -> dict[str, list[dict]]:
    return {
        kind: [{name: thing[name] for name in ATTRIBUTES if name in thing} for thing in of_kind]
        for kind, of_kind in things.items()
        if of_kind and kind != "image"
    }


@pytest.mark.parametrize(
    "content",
    [
        pdfs.prose(14),
        pdfs.tables_amid_text(),
        pdfs.with_printers_marks(1),
        pdfs.form_bomb(1, 1, 3),
        pdfs.form_within_itself(1, 1),
        pdfs.scanned(1),
        odd_text(),
        turned_and_shifted(),
    ],
    ids=["prose", "tables", "marks", "forms", "a form in itself", "an image", "odd text", "turned and shifted"],
)
def test_a_page_is_described_with_the_same_numbers(content):
    """Every character, line, rectangle and curve, in the same order; text and tables follow from them."""
    with pdfplumber.open(io.BytesIO(content)) as plain, pdfplumber.open(io.BytesIO(content)) as ours:
        for one, other in zip(plain.pages, ours.pages, strict=True):
            other._objects = drawing.objects(other)
            assert in_our_words(other.objects) == in_our_words(one.objects)
            assert other.extract_text() == one.extract_text()
            assert other.extract_tables() == one.extract_tables()
