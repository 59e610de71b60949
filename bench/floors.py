"""What both benchmarks of parsing work on: warm workers, files of any length, and the time from a record to its end."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

import psutil
from pypdf import PdfReader, PdfWriter

from bench.parse_figures import Ingested
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


def ingest(floor: Floor, path: Path, engine: Engine, name: str) -> Ingested:
    """Have a document ingested. It is looked at every 50 ms: to ask more often would disturb."""
    clock = _CpuClock(floor.worker.pid)
    floor.upload(name, path.read_bytes(), engine=engine)
    while not (state := floor.store.state(name)).is_final:
        time.sleep(0.05)
        clock.look()
    assert state.status is Status.COMPLETED, state
    assert state.finished_at is not None
    seconds = (datetime.fromisoformat(state.finished_at) - datetime.fromisoformat(state.created_at)).total_seconds()
    return Ingested(seconds, *clock.spent())


class _CpuClock:
    """The CPU time of a worker's processes since construction. Those that end count to when they were last seen."""

    def __init__(self, worker: int) -> None:
        self._worker = psutil.Process(worker)
        self._seen: dict[psutil.Process, float] = {}
        self._readers: set[psutil.Process] = set()
        self.look()
        self._before = dict(self._seen)

    def look(self) -> None:
        """Read the time of every process that there is."""
        children = self._worker.children()
        readers = [reader for child in children for reader in _children(child)]
        self._readers.update(readers)
        for process in (self._worker, *children, *readers):
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                self._seen[process] = times.user + times.system

    def spent(self) -> tuple[float, float]:
        """Seconds of the readers, and of all others."""
        seconds = {process: total - self._before.get(process, 0.0) for process, total in self._seen.items()}
        of_readers = sum(of_one for process, of_one in seconds.items() if process in self._readers)
        return of_readers, sum(seconds.values()) - of_readers


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children()
    except psutil.NoSuchProcess:
        return []


def repeated(content: bytes, pages: int) -> bytes:
    """A file of so many pages: those of ``content``, over and over."""
    reader, writer = PdfReader(io.BytesIO(content)), PdfWriter()
    for number in range(pages):
        writer.add_page(reader.pages[number % len(reader.pages)])
    file = io.BytesIO()
    writer.write(file)
    return file.getvalue()
