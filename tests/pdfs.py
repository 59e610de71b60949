"""Makers of PDFs to ingest, good and bad. Each gives bytes, the same every time, and is asked for the same but once."""

from __future__ import annotations

import io
import random
import re
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache

from PIL import Image
from pypdf import PdfReader, PdfWriter
from pypdf.generic import ArrayObject, DecodedStreamObject, DictionaryObject, NameObject, NumberObject
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.units import mm
from reportlab.lib.utils import ImageReader
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Table

CHINESE_FONT = "STSong-Light"
CHINESE = "文档处理进度实时推送到浏览器无需轮询。"

_TEXT = (
    "the progress of every document reaches each browser that watches it within moments of the work moving on and "
    "nobody asks twice because a server that knows speaks first while those who listen need only keep the line open"
)
_WORDS = _TEXT.split()

WIDTH, HEIGHT = A4

_GRID = ("GRID", (0, 0), (-1, -1), 0.5, colors.black)


@cache
def prose(pages: int) -> bytes:
    """Headings, prose, a ruled table on every tenth page, a line of Chinese on every seventh. Page n says "Page n"."""
    words = random.Random(pages)

    def draw(canvas: Canvas, number: int) -> None:
        canvas.setFont("Helvetica-Bold", 16)
        canvas.drawString(20 * mm, HEIGHT - 25 * mm, f"Page {number}: {' '.join(words.sample(_WORDS, 3))}")
        _paragraphs(canvas, words)
        if number % 7 == 0:
            canvas.setFont(CHINESE_FONT, 12)
            canvas.drawString(20 * mm, 60 * mm, CHINESE)
        if number % 10 == 0:
            _table(canvas, number)

    return drawn(pages, draw)


@cache
def tables_amid_text() -> bytes:
    """One page: a line, two tables side by side, a line, and a frame of one cell that is no table.

    The left table has a pipe and a cell of two lines, the right one two cells merged.
    """

    def draw(canvas: Canvas, _number: int) -> None:
        left = Table([["item", "a|b"], ["two\nlines", "1"]], style=[_GRID])
        right = Table([["both", ""], ["x", "y"]], style=[_GRID, ("SPAN", (0, 0), (1, 0))])
        frame = Table([["A frame is no table."]], style=[_GRID])
        canvas.drawString(72, 760, "Above the tables.")
        for table, x, y in ((left, 72, 680), (right, 300, 680), (frame, 72, 560)):
            table.wrapOn(canvas, WIDTH, HEIGHT)
            table.drawOn(canvas, x, y)
        canvas.drawString(72, 640, "Below the tables.")

    return drawn(1, draw)


@cache
def table_with_a_hole() -> bytes:
    """One page with a grid of two by two, of which the last cell is missing; text stands in its place."""

    def draw(canvas: Canvas, _number: int) -> None:
        for x, y, word in ((100, 700, "a"), (200, 700, "b"), (100, 660, "c")):
            canvas.rect(x, y, 100, 40)
            canvas.drawString(x + 10, y + 15, word)
        canvas.drawString(210, 675, "in the hole")

    return drawn(1, draw)


@cache
def hyphenated() -> bytes:
    """One page with a word that is broken over two lines."""

    def draw(canvas: Canvas, _number: int) -> None:
        text = canvas.beginText(72, 700)
        text.textLines("The threat to the com-\npany was real.")
        canvas.drawText(text)

    return drawn(1, draw)


@cache
def character_bomb(pages: int, bomb: int, characters: int) -> bytes:
    """A few kilobytes, of which the page ``bomb`` draws so many characters."""

    def draw(canvas: Canvas, number: int) -> None:
        canvas.drawString(72, 700, f"Page {number}: harmless")
        if number == bomb:
            canvas.setFont("Helvetica", 0.5)
            for line in range(characters // 1000):
                canvas.drawString(10, 10 + line * 0.7, "x" * 1000)

    return drawn(pages, draw)


@cache
def with_printers_marks(pages: int) -> bytes:
    """Prose on pages to be cut: outside the crop box a grid of register marks, which no reader sees."""

    def draw(canvas: Canvas, number: int) -> None:
        canvas.setCropBox((60, 60, 500, 780))
        canvas.drawString(100, 700, f"Page {number}: between the marks")
        canvas.grid([10, 20, 30, 40], [10, 20, 30, 40])

    return drawn(pages, draw)


@cache
def scanned(pages: int) -> bytes:
    """Pages that are one image each, with no text at all."""
    grey = ImageReader(Image.new("L", (60, 80), 200))
    return drawn(pages, lambda canvas, _number: canvas.drawImage(grey, 0, 0, WIDTH, HEIGHT))


@cache
def partly_scanned(pages: int, text_on: int) -> bytes:
    """Text on one page; the others are empty."""

    def draw(canvas: Canvas, number: int) -> None:
        if number == text_on:
            canvas.drawString(20 * mm, 200 * mm, "The only words.")

    return drawn(pages, draw)


@cache
def encrypted(user_password: str, owner_password: str = "owner") -> bytes:
    """Two pages behind a password; an empty ``user_password`` restricts printing only."""
    writer = _writer(prose(2))
    writer.encrypt(user_password=user_password, owner_password=owner_password, algorithm="AES-256")
    return _written(writer)


@cache
def clobbered_startxref(pages: int) -> bytes:
    """The pointer to the table of objects leads nowhere."""
    good = prose(pages)
    return good[: good.rindex(b"startxref")] + b"startxref\n99999999\n%%EOF\n"


@cache
def damaged(pages: int) -> bytes:
    """No table of objects, and line ends where they mislead: pdfminer finds no page, PDFium all."""
    return clobbered_startxref(pages).replace(b"endobj\n", b"endobj ")


@cache
def clobbered_xref_stream(pages: int) -> bytes:
    """The pointer to a cross-reference stream leads nowhere: PDFium finds every page all the same, pdfplumber none."""
    return _with_xref_stream(prose(pages), startxref=999_999_999)


@cache
def truncated(pages: int, keep: float) -> bytes:
    """The first part of a file, as after a broken download."""
    good = prose(pages)
    return good[: int(len(good) * keep)]


@cache
def noise_after_a_good_header() -> bytes:
    """What a check of the first bytes takes for a PDF."""
    return b"%PDF-1.7\n" + random.Random(7).randbytes(20_000)


@cache
def last_pages_missing(pages: int, missing: int) -> bytes:
    """The last ``missing`` of ``pages`` pages are named, but are nowhere in the file."""
    writer = _writer(prose(pages))
    for kid in list(writer.root_object["/Pages"]["/Kids"])[pages - missing :]:
        writer._objects[kid.idnum - 1] = None
    return _written(writer)


@cache
def one_odd_page(pages: int, odd: int) -> bytes:
    """On page ``odd`` stands a drawing with half a matrix: pdfminer gives the page up, PDFium shrugs."""
    writer = _writer(prose(pages))
    drawing = DecodedStreamObject()
    drawing.set_data(b"0 0 m")
    drawing.update(
        {
            NameObject("/Subtype"): NameObject("/Form"),
            NameObject("/BBox"): ArrayObject([NumberObject(0)] * 4),
            NameObject("/Matrix"): ArrayObject([NumberObject(1)] * 3),
        }
    )
    page = writer.pages[odd - 1]
    page["/Resources"][NameObject("/XObject")] = DictionaryObject({NameObject("/X"): writer._add_object(drawing)})
    contents = DecodedStreamObject()
    contents.set_data(page.get_contents().get_data() + b"\n/X Do\n")
    page[NameObject("/Contents")] = writer._add_object(contents)
    return _written(writer)


@cache
def flate_bomb(pages: int, bomb: int, inflated_bytes: int) -> bytes:
    """A thousandth of the size, of which the page ``bomb`` inflates to so many spaces."""
    squeeze = zlib.compressobj(9)
    blank = b" " * 2**20
    parts = [squeeze.compress(blank) for _ in range(inflated_bytes // len(blank))]
    return _with_contents(pages, bomb, _stream(b"".join([*parts, squeeze.flush()]), b"/Filter /FlateDecode"))


@cache
def page_references(count: int) -> bytes:
    """A small file that says it has ``count`` pages, all of them the same one."""
    kids = b"3 0 R " * count
    return _assembled(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Count %d /Kids [%b] >>" % (count, kids),
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] >>",
        ]
    )


#: A page, by its width, 0 when it takes over the one above it; or a node, of its kids.
Tree = int | list["Tree"]


def page_tree(tree: list[Tree], untold: int = 0, counts: Mapping[int, int] | None = None) -> bytes:
    """Empty pages in such a tree. Every other node has a width for its pages; all count ``untold`` too few.

    What a node says instead may be given by its number: the root's is 2, and pages are counted with them.
    """
    objects = [b""]

    def add(part: Tree, parent: int) -> int:
        objects.append(b"")
        number = len(objects)
        if isinstance(part, int):
            width = b"/MediaBox [0 0 %d 842]" % part if part else b""
            objects[number - 1] = b"<< /Type /Page /Parent %d 0 R %b >>" % (parent, width)
            return number
        before = len(objects)
        kids = b" ".join(b"%d 0 R" % add(kid, number) for kid in part)
        pages = sum(content.startswith(b"<< /Type /Page ") for content in objects[before:])
        width = b"/MediaBox [0 0 %d 842]" % (1000 + number) if number % 2 == 0 else b""
        count = (counts or {}).get(number, pages - untold)
        objects[number - 1] = b"<< /Type /Pages /Count %d /Kids [%b] %b >>" % (count, kids, width)
        return number

    objects[0] = b"<< /Type /Catalog /Pages %d 0 R >>" % add(tree, 0)
    return _assembled(objects)


@cache
def form_bomb(pages: int, bomb: int, levels: int) -> bytes:
    """The page ``bomb`` draws a form that draws the next one twice, and so on: two to the power of ``levels``."""
    first = 3 + 2 * pages + 1
    forms = [_form(b"/X Do /X Do", first + level + 1) for level in range(levels)]
    return _with_contents(pages, bomb, _stream(b"/X Do"), form=first, more=[*forms, _form(b"0 0 m", first)])


@cache
def form_within_itself(pages: int, bomb: int) -> bytes:
    """The page ``bomb`` draws a form that draws itself, twice."""
    itself = 3 + 2 * pages + 1
    return _with_contents(pages, bomb, _stream(b"/X Do"), form=itself, more=[_form(b"/X Do /X Do", itself)])


@cache
def nested_arrays(pages: int, bomb: int, depth: int) -> bytes:
    """The page ``bomb`` opens so many arrays, each within the one before."""
    return _with_contents(pages, bomb, _stream(b"[" * depth + b"]" * depth + b" TJ"))


def _with_contents(pages: int, bomb: int, contents: bytes, form: int = 0, more: Sequence[bytes] = ()) -> bytes:
    """Pages that say "Page n: harmless", but for one with other contents, whose forms are objects after those."""
    kids = b" ".join(b"%d 0 R" % (4 + 2 * index) for index in range(pages))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Count %d /Kids [%b] >>" % (pages, kids),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number in range(1, pages + 1):
        bad = number == bomb
        resources = b"/XObject << /X %d 0 R >>" % form if bad and form else b"/Font << /F 3 0 R >>"
        page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << %b >> /Contents %d 0 R >>"
        objects.append(page % (resources, len(objects) + 2))
        objects.append(contents if bad else _stream(b"BT /F 12 Tf 72 700 Td (Page %d: harmless) Tj ET" % number))
    return _assembled([*objects, *more])


def _form(data: bytes, draws: int) -> bytes:
    return _stream(
        data, b"/Type /XObject /Subtype /Form /BBox [0 0 9 9] /Resources << /XObject << /X %d 0 R >> >>" % draws
    )


def _stream(data: bytes, entries: bytes = b"") -> bytes:
    return b"<< /Length %d %b >>\nstream\n%b\nendstream" % (len(data), entries, data)


def _assembled(objects: Sequence[bytes]) -> bytes:
    """A file of these objects, numbered from 1, the first of which is the catalog."""
    file = bytearray(b"%PDF-1.7\n")
    offsets = []
    for number, content in enumerate(objects, 1):
        offsets.append(len(file))
        file += b"%d 0 obj\n%b\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    size, at = len(objects) + 1, len(file)
    file += b"xref\n0 %d\n0000000000 65535 f \n%b" % (size, table)
    file += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (size, at)
    return bytes(file)


def _writer(pdf: bytes) -> PdfWriter:
    return PdfWriter(clone_from=PdfReader(io.BytesIO(pdf)))


def _written(writer: PdfWriter) -> bytes:
    file = io.BytesIO()
    writer.write(file)
    return file.getvalue()


def _with_xref_stream(pdf: bytes, *, startxref: int) -> bytes:
    """The same objects under a cross-reference stream (ISO 32000-1, 7.5.8) in the place of the table."""
    at = pdf.rindex(b"xref\n0", 0, pdf.rindex(b"startxref"))
    entries = re.findall(rb"(\d{10}) \d{5} ([fn]) ", pdf[at:])
    root = re.search(rb"/Root (\d+ 0 R)", pdf[at:])
    assert root is not None
    rows = [(int(kind == b"n"), int(offset)) for offset, kind in entries]
    rows.append((1, at))
    table = b"".join(struct.pack(">BIB", kind, offset, 0) for kind, offset in rows)
    head = b"<< /Type /XRef /Size %d /W [1 4 1] /Root %b /Length %d >>" % (len(rows), root[1], len(table))
    stream = b"%d 0 obj\n%b\nstream\n%b\nendstream\nendobj\n" % (len(rows) - 1, head, table)
    return pdf[:at] + stream + b"startxref\n%d\n%%%%EOF\n" % startxref


def drawn(pages: int, draw: Callable[[Canvas, int], None]) -> bytes:
    """A file whose pages ``draw`` draws: a canvas and the number of the page, from 1."""
    _fonts()
    file = io.BytesIO()
    canvas = Canvas(file, pagesize=A4, invariant=True)
    for number in range(1, pages + 1):
        draw(canvas, number)
        canvas.showPage()
    canvas.save()
    return file.getvalue()


@cache
def _fonts() -> None:
    pdfmetrics.registerFont(UnicodeCIDFont(CHINESE_FONT))


def _paragraphs(canvas: Canvas, words: random.Random) -> None:
    text = canvas.beginText(20 * mm, HEIGHT - 40 * mm)
    text.setFont("Times-Roman", 11, leading=14)
    for _ in range(4):
        for line in _lines(words):
            text.textLine(line)
        text.textLine("")
    canvas.drawText(text)


def _lines(words: random.Random) -> Iterator[str]:
    for _ in range(5):
        yield " ".join(words.choices(_WORDS, k=14)).capitalize() + "."


def _table(canvas: Canvas, number: int) -> None:
    cells = [["item", "count", "share"], *([f"row {row}", str(row * number), f"{row}%"] for row in range(1, 5))]
    table = Table(cells, style=[_GRID])
    table.wrapOn(canvas, WIDTH, HEIGHT)
    table.drawOn(canvas, 20 * mm, 20 * mm)
