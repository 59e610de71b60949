"""Seconds that a file takes to read in this process, without the service: printed as a number.

python -m bench.alone loop FILE      what people write who have a PDF and pdfplumber
python -m bench.alone engine FILE    our pdfplumber engine, which is what workers run
"""

from __future__ import annotations

import gc
import sys
import time
from pathlib import Path

import pdfplumber

from ingest_worker.child import OBJECTS_BETWEEN_COLLECTIONS
from ingest_worker.stages import pdf
from ingest_worker.stages.reading import Limits
from shared.config import Engine

LIMITS = Limits(pages=100_000, page_characters=1_000_000)


def loop(path: Path) -> None:
    """With the one line that keeps its memory bounded."""
    with path.open("rb") as file:
        for page in pdfplumber.open(file).pages:
            page.extract_text()
            page.close()


def engine(path: Path) -> None:
    """Every page, as a worker's process reads it: it looks for cycles among its objects just as rarely."""
    gc.freeze()
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    with pdf.opened(path, Engine.PDFPLUMBER, LIMITS) as document:
        for number in range(1, document.page_count + 1):
            document.reading(number)


if __name__ == "__main__":
    began = time.perf_counter()
    {"loop": loop, "engine": engine}[sys.argv[1]](Path(sys.argv[2]))
    print(time.perf_counter() - began)
