"""How fast documents are parsed: a plain pdfplumber loop, and the service with each engine, on one process and on two.

All in one run on the same files, end to end: from the record that is made to the state COMPLETED, by real Celery
workers over a real Valkey, with storage and database. Beside the speed stand the quality of the text and of the tables,
what the service costs beyond the reading itself, and the memory of a worker on a document of many pages. For each file
and goal the command says whether it was met.

    python -m bench.parse_speed [--pdf FILE ...] [--pages N] [--rounds N] [--memory-pages N]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from bench import parse_files, parse_memory, parse_quality
from bench.floors import ingest, warm_floor
from bench.parse_figures import Figures, verdicts
from ingest_worker.stages import pdf
from shared.config import Engine
from shared.errors import DocumentError

#: Printed below the figures.
NOTES = f"""\
cost beyond reading: what tasks, storage and progress add to the pdfplumber engine's own time, on one process: how much
longer a document took than its reader was at work, by that process's own CPU time in the same run; the median of the
rounds, and the least and the most. In square brackets the CPU time of the worker's other processes: most of it is spent
while the reader goes on.
{parse_quality.NOTES}"""


def measure(path: Path, folder: Path, rounds: int) -> Figures:
    """Everything about one file."""
    figures = Figures(path.name, parse_quality.measure(path))
    for engine in (Engine.PDFPLUMBER, Engine.AUTO):
        for processes in (1, 2):
            with warm_floor(Path(tempfile.mkdtemp(dir=folder)), processes) as floor:
                seconds = figures.service_seconds[engine, processes] = []
                for number in range(rounds):
                    ingested = ingest(floor, path, engine, f"{number}")
                    seconds.append(ingested.seconds)
                    if (engine, processes) == (Engine.PDFPLUMBER, 1):
                        figures.on_one.append(ingested)
            if engine is Engine.AUTO:
                figures.loop_seconds.append(_loop(path))
    return figures


def _loop(path: Path) -> float:
    """Seconds, in a process where nothing else is: what this one holds would slow it down."""
    return float(subprocess.check_output([sys.executable, "-m", "bench.alone", str(path)], text=True))


def show(all_figures: list[Figures]) -> None:
    """The table of ``make bench-parse``: pages per second, and in brackets how many times the loop's."""
    table = Table("file", "pages", "loop", title="pages per second, and times the plain pdfplumber loop")
    keys = [(engine, n) for engine in (Engine.PDFPLUMBER, Engine.AUTO) for n in (1, 2)]
    for engine, processes in keys:
        table.add_column(f"{engine}, {processes} process{'es' if processes > 1 else ''}")
    table.add_column("cost beyond reading")
    for figures in all_figures:
        pages = figures.quality.pages
        cells = [figures.name, str(pages), f"{pages / median(figures.loop_seconds):.1f}"]
        for key in keys:
            speed = pages / median(figures.service_seconds[key])
            cells.append(f"{speed:.1f} ({figures.times_the_loop(*key):.2f} x)")
        beyond = figures.beyond_reading
        spread = f"{min(beyond):+.1%} to {max(beyond):+.1%}"
        cells.append(f"{median(beyond):+.1%}, {spread} [{median(figures.beside_reading):.1%}]")
        table.add_row(*cells)
    Console(width=200).print(table, _qualities(all_figures), NOTES, _verdicts(all_figures), highlight=False)


def _qualities(all_figures: list[Figures]) -> Table:
    table = Table("file", "pages", *parse_quality.HEADINGS, title="auto beside pdfplumber by itself")
    for figures in all_figures:
        table.add_row(figures.name, str(figures.quality.pages), *parse_quality.cells_of(figures.quality))
    return table


def _verdicts(all_figures: list[Figures]) -> Table:
    table = Table("file", "goal", "measured", "", title="goals")
    for figures in all_figures:
        for verdict in verdicts(figures):
            table.add_row(figures.name, verdict.goal, verdict.measured, "met" if verdict.met else "NOT met")
        table.add_section()
    return table


def _given(paths: list[Path], folder: Path) -> Iterator[Path]:
    for path in paths:
        try:
            with pdf.opened(path, Engine.AUTO, parse_quality.LIMITS):
                yield parse_files.long_enough(path, folder)
        except DocumentError as error:
            Console().print(f"{path.name} is left out. {error.detail}", highlight=False)


def main() -> int:
    """The run of ``make bench-parse``. The exit status is 1 when some goal was not met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pdf", type=Path, nargs="+", default=[], help="files more")
    parser.add_argument("--pages", type=int, default=480, help="of each of the two files that are made for it")
    parser.add_argument("--memory-pages", type=int, default=10_000, help="of the document for memory; 0: none")
    parser.add_argument("--rounds", type=int, default=3, help="the service is measured so often, and the median counts")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ingest-bench-") as name:
        folder = Path(name)
        paths = [folder / "prose.pdf", folder / "tables.pdf"]
        for path, made in zip(paths, (parse_files.prose, parse_files.tables), strict=True):
            path.write_bytes(made(options.pages))
        paths += _given(options.pdf, folder)
        all_figures = [measure(path, folder, options.rounds) for path in paths]
        show(all_figures)
        if options.memory_pages:
            Console(width=200).print(str(parse_memory.measure(options.memory_pages, folder)), highlight=False)
    return 0 if all(verdict.met for figures in all_figures for verdict in verdicts(figures)) else 1


if __name__ == "__main__":
    sys.exit(main())
