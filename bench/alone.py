"""Seconds that people's own loop over a PDF with pdfplumber takes, printed as a number.

python -m bench.alone FILE
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pdfplumber


def loop(path: Path) -> None:
    """With the one line that keeps its memory bounded."""
    with path.open("rb") as file:
        for page in pdfplumber.open(file).pages:
            page.extract_text()
            page.close()


if __name__ == "__main__":
    began = time.perf_counter()
    loop(Path(sys.argv[1]))
    print(time.perf_counter() - began)
