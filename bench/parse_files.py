"""The documents that `bench.parse_speed` makes for itself: nothing but prose, and nothing but tables.

The same number of pages gives the same bytes.
"""

from __future__ import annotations

import random
import textwrap
from pathlib import Path

from pypdf import PdfReader
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Table as DrawnTable

from bench.floors import repeated
from tests import pdfs

#: A file of fewer pages is taken several times over: speed shows only where both processes have something to do.
LEAST_PAGES = 64

_TEXT = """\
the of and to in that was with for his had not but which from they are were all their one would there been when who
more will some could them other than then now only over such any time into its these two may like first upon after most
made great before should where through under work long way years people little much because state found without again
right country house nothing power rather public another place given himself against during small enough thought number
government business question important different according knowledge sometimes together everything interest"""

_WORDS = _TEXT.split()


def prose(pages: int) -> bytes:
    """A heading and forty lines in one column on every page, and no line is drawn."""
    chance = random.Random(pages)

    def draw(canvas: Canvas, number: int) -> None:
        canvas.setFont("Times-Bold", 14)
        canvas.drawString(72, 780, f"{number}. {' '.join(chance.sample(_WORDS, 4)).capitalize()}")
        text = canvas.beginText(72, 745)
        text.setFont("Times-Roman", 11, leading=16)
        text.textLines(textwrap.wrap(_sentences(chance), 88)[:40])
        canvas.drawText(text)

    return pdfs.drawn(pages, draw)


def tables(pages: int) -> bytes:
    """Every page is a ruled table of 35 rows and 4 columns."""

    def draw(canvas: Canvas, number: int) -> None:
        rows = [[f"row {row}", f"{row * number}", f"item {row} of page {number}", f"{row}%"] for row in range(1, 36)]
        drawn = DrawnTable(rows, style=[("GRID", (0, 0), (-1, -1), 0.5, colors.black)])
        drawn.wrapOn(canvas, *A4)
        drawn.drawOn(canvas, 60, 100)

    return pdfs.drawn(pages, draw)


def long_enough(path: Path, folder: Path) -> Path:
    """The file, or in that folder one with its pages over and over."""
    count = len(PdfReader(path).pages)
    if count >= LEAST_PAGES:
        return path
    times = -(-LEAST_PAGES // count)
    longer = folder / f"{times} times {path.name}"
    longer.write_bytes(repeated(path.read_bytes(), times * count))
    return longer


def _sentences(chance: random.Random) -> str:
    lengths = chance.choices(range(6, 22), k=60)
    return " ".join(" ".join(chance.choices(_WORDS, k=length)).capitalize() + "." for length in lengths)
