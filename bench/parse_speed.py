"""How fast documents are parsed: a plain pdfplumber loop, and the service with each engine, on one process and on two.

All in one run on the same files, end to end: from the record that is made to the state COMPLETED, by real Celery
workers over a real Valkey, with storage and database. Beside the speed stand the quality of the text and of the tables,
what the service costs beyond the reading itself, and the memory of a worker on a document of many pages.

    python -m bench.parse_speed [--pdf FILE ...] [--pages N] [--memory-pages N]
"""

from __future__ import annotations

import argparse
import difflib
import io
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import pdfplumber
from pypdf import PdfReader
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Table as DrawnTable
from rich.console import Console
from rich.table import Table

from bench import parse_memory
from bench.alone import LIMITS
from bench.floors import ingest, repeated, warm_floor
from ingest_worker.stages import pdf
from shared.config import Engine
from tests import pdfs

#: The reading of a document is compared on so many pages, spread over it.
COMPARED_PAGES = 40

LEAST_PAGES = 64

#: Printed below the figures.
NOTES = """\
cost beyond reading: what tasks, storage and progress add to the pdfplumber engine's own time, on one process: the
median of the rounds, and the least and the most. In each round a fresh process reads the file by itself, and then the
service does, whose reader is as fresh. Neither has the start of Python and imports counted.
words alike: auto beside the loop, on pages without tables. As it comes, the loop takes a space of less than 3 points
for none, and makes one word of two in narrow type ("them,but"); so the second figure is of a loop with x_tolerance=1.5.
tables equal: all cells as pdfplumber has them."""


@dataclass
class Figures:
    """What was measured of one file. Times in seconds, of each round; those of the service by engine and processes."""

    name: str
    pages: int
    likeness: float
    likeness_where_spaces_are_narrow: float
    tables: int
    tables_equal: int
    loop_seconds: list[float] = field(default_factory=list)
    in_process_seconds: list[float] = field(default_factory=list)
    service_seconds: dict[tuple[Engine, int], list[float]] = field(default_factory=dict)

    @property
    def beyond_reading(self) -> list[float]:
        """What the service costs beyond the reading itself, as a share of it, of each round."""
        service = self.service_seconds[Engine.PDFPLUMBER, 1]
        return [ours / alone - 1 for ours, alone in zip(service, self.in_process_seconds, strict=True)]

    def times_the_loop(self, engine: Engine, processes: int) -> float:
        """How many times as fast as the plain loop, by the medians."""
        return median(self.loop_seconds) / median(self.service_seconds[engine, processes])


def measure(path: Path, folder: Path, rounds: int) -> Figures:
    """Everything about one file."""
    with pdfplumber.open(path) as file:
        pages = len(file.pages)
    figures = Figures(path.name, pages, *_likeness(path), *_tables(path))
    for engine in (Engine.PDFPLUMBER, Engine.AUTO):
        for processes in (1, 2):
            with warm_floor(folder / f"{path.stem}-{engine}-{processes}", processes) as floor:
                seconds = figures.service_seconds[engine, processes] = []
                for number in range(rounds):
                    if (engine, processes) == (Engine.PDFPLUMBER, 1):  # side by side, as the machine is never the same
                        figures.in_process_seconds.append(_alone("engine", path))
                    seconds.append(ingest(floor, path, engine, f"{number}"))
            if engine is Engine.AUTO:
                figures.loop_seconds.append(_alone("loop", path))
    return figures


def _alone(what: str, path: Path) -> float:
    """Seconds, in a process where nothing else is: what this one holds would slow it down."""
    return float(subprocess.check_output([sys.executable, "-m", "bench.alone", what, str(path)], text=True))


def _likeness(path: Path) -> tuple[float, float]:
    """How alike the words of `auto` and of the loop are (`difflib` over words), on pages without tables.

    The second figure is that of a loop with half its ``x_tolerance``: as it comes, it takes a space of less than
    3 points for none, and makes one word of two in narrow type. The loop sees the page as it is cut: printers' marks
    beyond the crop box are no text of the document.
    """
    shares: list[tuple[float, float]] = []
    with pdf.opened(path, Engine.AUTO, LIMITS) as document, path.open("rb") as file:
        pages = pdfplumber.open(file).pages
        for number in range(1, document.page_count + 1, max(1, document.page_count // COMPARED_PAGES)):
            page, reading = pages[number - 1], document.reading(number)
            visible = page.crop(page.cropbox, strict=False)
            words, narrow = (visible.extract_text(x_tolerance=points).split() for points in (3, 1.5))
            page.close()
            if reading.page.tables or not words:
                continue
            ours = reading.page.text.split()
            shares += [(_ratio(words, ours), _ratio(narrow, ours))] * len(words)
    if not shares:
        return float("nan"), float("nan")
    first, second = (sum(ratios) / len(shares) for ratios in zip(*shares, strict=True))
    return first, second


def _ratio(one: list[str], other: list[str]) -> float:
    return difflib.SequenceMatcher(None, one, other, autojunk=False).ratio()


def _tables(path: Path) -> tuple[int, int]:
    """How many tables of two rows and two columns pdfplumber finds, and of how many `auto` has just these cells."""
    found = equal = 0
    with pdf.opened(path, Engine.AUTO, LIMITS) as document, path.open("rb") as file:
        pages = pdfplumber.open(file).pages
        for number in range(1, document.page_count + 1, max(1, document.page_count // COMPARED_PAGES)):
            page = pages[number - 1]
            theirs = [
                table for table in page.extract_tables() if len(table) > 1 and len(table[0]) > 1 and _filled(table)
            ]
            page.close()
            ours = [[list(row) for row in table.rows] for table in document.reading(number).page.tables]
            found += len(theirs)
            equal += sum(table in ours for table in theirs)
    return found, equal


def _filled(table: list[list[str | None]]) -> bool:
    return any(cell and cell.strip() for row in table for cell in row)


def _long_enough(path: Path, folder: Path) -> Path:
    """The file, or one with its pages over and over: speed shows only where both processes have something to do."""
    reader = PdfReader(path)
    if len(reader.pages) >= LEAST_PAGES:
        return path
    times = -(-LEAST_PAGES // len(reader.pages))
    longer = folder / f"{times} times {path.name}"
    longer.write_bytes(repeated(path.read_bytes(), times * len(reader.pages)))
    return longer


def table_heavy(pages: int) -> bytes:
    """Every page is a ruled table."""
    file = io.BytesIO()
    canvas = Canvas(file, pagesize=A4, invariant=True)
    for number in range(1, pages + 1):
        rows = [[f"row {row}", f"{row * number}", f"item {row} of page {number}", f"{row}%"] for row in range(1, 36)]
        drawn = DrawnTable(rows, style=[("GRID", (0, 0), (-1, -1), 0.5, colors.black)])
        drawn.wrapOn(canvas, *A4)
        drawn.drawOn(canvas, 60, 100)
        canvas.showPage()
    canvas.save()
    return file.getvalue()


def show(all_figures: list[Figures]) -> None:
    """The table of ``make bench-parse``: pages per second, and in brackets how many times the loop's."""
    table = Table("file", "pages", "loop", title="pages per second, and times the plain pdfplumber loop")
    keys = [(engine, n) for engine in (Engine.PDFPLUMBER, Engine.AUTO) for n in (1, 2)]
    for engine, processes in keys:
        table.add_column(f"{engine}, {processes} process{'es' if processes > 1 else ''}")
    for heading in ("cost beyond reading", "words alike", "x_tolerance 1.5", "tables equal"):
        table.add_column(heading)
    for figures in all_figures:
        cells = [figures.name, str(figures.pages), f"{figures.pages / median(figures.loop_seconds):.1f}"]
        for key in keys:
            speed = figures.pages / median(figures.service_seconds[key])
            cells.append(f"{speed:.1f} ({figures.times_the_loop(*key):.2f} x)")
        beyond = figures.beyond_reading
        cells.append(f"{median(beyond):+.1%} ({min(beyond):+.1%} to {max(beyond):+.1%})")
        cells += [f"{figures.likeness:.3f}", f"{figures.likeness_where_spaces_are_narrow:.3f}"]
        cells.append(f"{figures.tables_equal} of {figures.tables}")
        table.add_row(*cells)
    Console(width=200).print(table, NOTES)


def main() -> None:
    """The run of ``make bench-parse``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pdf", type=Path, action="append", default=[], help="a file more, as often as you like")
    parser.add_argument("--pages", type=int, default=160, help="of each of the two files that are made for it")
    parser.add_argument("--memory-pages", type=int, default=10_000, help="of the document for memory; 0: none")
    parser.add_argument("--rounds", type=int, default=3, help="the service is measured so often, and the median counts")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ingest-bench-") as name:
        folder = Path(name)
        (folder / "prose.pdf").write_bytes(pdfs.prose(options.pages))
        (folder / "tables.pdf").write_bytes(table_heavy(options.pages))
        paths = [folder / "prose.pdf", folder / "tables.pdf"]
        paths += [_long_enough(path, folder) for path in options.pdf]
        show([measure(path, folder, options.rounds) for path in paths])
        if options.memory_pages:
            Console(width=200).print(str(parse_memory.measure(options.memory_pages, folder)))


if __name__ == "__main__":
    main()
