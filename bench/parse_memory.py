"""How much memory the processes of a worker hold on a document of many pages.

A worker with one child of its pool, and the process that this child has read pages, are looked at twenty times a second
while a document of prose is ingested, with a ruled table on every tenth page.

    python -m bench.parse_memory [--pages N] [--engine ENGINE]
"""

from __future__ import annotations

import argparse
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from rich.console import Console

from bench.floors import ingest, repeated, warm_floor
from shared.config import Engine
from tests import pdfs

SAMPLE_SECONDS = 0.05

#: What the project promises of each process, in bytes.
MOST_BYTES = 150_000_000

#: The pages that are made; a longer document has them over and over.
PAGES_MADE = 100


@dataclass
class Held:
    """The most that a kind of process ever held, in bytes: resident, and what it shares with no other process."""

    resident_bytes: int = 0
    own_bytes: int = 0

    def see(self, process: psutil.Process) -> None:
        """Look at it once more."""
        memory = process.memory_full_info()
        self.resident_bytes = max(self.resident_bytes, memory.rss)
        self.own_bytes = max(self.own_bytes, memory.uss)

    def __str__(self) -> str:
        verdict = "met" if self.resident_bytes <= MOST_BYTES else "NOT met"
        return f"{self.resident_bytes / 1e6:.0f} MB resident, {self.own_bytes / 1e6:.0f} MB of it its own: {verdict}"


@dataclass
class Memory:
    """What was measured: by kind of process, and how long it took."""

    pages: int
    engine: Engine
    seconds: float = 0.0
    pool_child: Held = field(default_factory=Held)
    reader: Held = field(default_factory=Held)

    def __str__(self) -> str:
        return (
            f"memory, {self.pages} pages with {self.engine} on one process in {self.seconds:.1f} s "
            f"(at most {MOST_BYTES / 1e6:.0f} MB each):\n"
            f"  the child of the pool: {self.pool_child}\n"
            f"  the process that reads pages for it: {self.reader}"
        )


class Watch(threading.Thread):
    """Looks at the processes below ``parent`` for the block."""

    def __init__(self, parent: int, memory: Memory) -> None:
        super().__init__(daemon=True)
        self._parent = psutil.Process(parent)
        self._memory = memory
        self._end = threading.Event()

    def __enter__(self) -> None:
        self.start()

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self.join()

    def run(self) -> None:
        """Look again and again. A process that is gone by then is not looked at."""
        while not self._end.wait(SAMPLE_SECONDS):
            with suppress(psutil.Error):
                for child in self._parent.children():
                    self._memory.pool_child.see(child)
                    for reader in child.children():
                        self._memory.reader.see(reader)


def measure(pages: int, folder: Path, engine: Engine = Engine.AUTO) -> Memory:
    """A worker with one process on a document of so many pages."""
    path = folder / "long.pdf"
    path.write_bytes(repeated(pdfs.prose(PAGES_MADE), pages))
    memory = Memory(pages, engine)
    with warm_floor(folder / "memory", 1) as floor, Watch(floor.worker.pid, memory):
        memory.seconds = ingest(floor, path, engine, "long").seconds
    return memory


def main() -> None:
    """The run of ``make bench-memory``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=10_000)
    parser.add_argument("--engine", type=Engine, default=Engine.AUTO)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ingest-bench-") as folder:
        Console(width=200).print(str(measure(options.pages, Path(folder), options.engine)))


if __name__ == "__main__":
    main()
