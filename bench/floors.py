"""What both benchmarks of parsing work on: warm workers, files of any length, and the time from a record to its end."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from pypdf import PdfReader, PdfWriter

from shared.config import Engine
from shared.jobs import Status
from tests import pdfs
from tests.system.floor import Floor


@contextmanager
def warm_floor(folder: Path, processes: int) -> Iterator[Floor]:
    """A worker with so many children in its pool, which have opened their connections."""
    with Floor(folder, web=0, workers=1, concurrency=processes) as floor:
        floor.upload("warm", pdfs.prose(64))
        floor.ended("warm")
        yield floor


def ingest(floor: Floor, path: Path, engine: Engine, name: str) -> float:
    """Seconds from the record that is made to the state COMPLETED, by the record: to ask more often would disturb."""
    floor.upload(name, path.read_bytes(), engine=engine)
    while not (state := floor.store.state(name)).is_final:
        time.sleep(0.05)
    assert state.status is Status.COMPLETED, state
    assert state.finished_at is not None
    return (datetime.fromisoformat(state.finished_at) - datetime.fromisoformat(state.created_at)).total_seconds()


def repeated(content: bytes, pages: int) -> bytes:
    """A file of so many pages: those of ``content``, over and over."""
    reader, writer = PdfReader(io.BytesIO(content)), PdfWriter()
    for number in range(pages):
        writer.add_page(reader.pages[number % len(reader.pages)])
    file = io.BytesIO()
    writer.write(file)
    return file.getvalue()
