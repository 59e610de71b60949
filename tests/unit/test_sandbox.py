"""Whatever reading a page does to the process that reads it, the others come."""

from __future__ import annotations

import ctypes
import fcntl
import json
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from ingest_worker import sandbox
from ingest_worker.sandbox import Sandbox, Walls
from ingest_worker.stages import pdf
from ingest_worker.stages.reading import Limits, Problem, Reader
from shared.config import Engine
from shared.documents import Page
from shared.errors import Encrypted, TooManyPages, Unreadable
from tests import pdfs
from tests.awaiting import wait_until

LIMITS = Limits(pages=1000, page_characters=200_000)
WALLS = Walls(page_seconds=20, address_space_bytes=1 << 30)
HASTE = Walls(page_seconds=0.4, address_space_bytes=1 << 30)

only_on_linux = pytest.mark.skipif(sys.platform != "linux", reason="the kernel has no such means")


@pytest.fixture
def path(tmp_path) -> Path:
    """A file of three pages."""
    path = tmp_path / "file.pdf"
    path.write_bytes(pdfs.prose(3))
    return path


@pytest.fixture
def reader(monkeypatch) -> Callable[[Callable[[int], object]], None]:
    """Has something happen before a page is read; what is not None is its text."""

    def install(happens: Callable[[int], object]) -> None:
        really = pdf.Pdf._page

        def page(self: pdf.Pdf, number: int, reader: Reader, *, is_ruled: bool) -> Page | None:
            text = happens(number)
            return Page(number, text) if isinstance(text, str) else really(self, number, reader, is_ruled=is_ruled)

        monkeypatch.setattr(pdf.Pdf, "_page", page)

    return install


def sandboxed(
    path: Path, engine: Engine = Engine.PDFIUM, walls: Walls = WALLS, *, tick=lambda: None, password: str | None = None
) -> Sandbox:
    return Sandbox(lambda: pdf.opened(path, engine, LIMITS, password), walls=walls, tick=tick)


def problems(path: Path, walls: Walls = WALLS) -> list[Problem | None]:
    """Why each page was left out, if it was; those that were not have their text, those that were have none."""
    with sandboxed(path, walls=walls) as document:
        readings = [document.reading(number) for number in range(1, document.page_count + 1)]
    assert [bool(reading.page.text) for reading in readings] == [reading.problem is None for reading in readings]
    assert all(reading.reader is Reader.NOBODY for reading in readings if reading.problem)
    return [reading.problem for reading in readings]


@contextmanager
def nothing_left_behind():
    """No process, not even a dead one, and no descriptor."""
    before, children = psutil.Process().num_fds(), psutil.Process().children()
    yield
    assert psutil.Process().children() == children
    assert psutil.Process().num_fds() == before


class Tries:
    """Counts across processes."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "tries"
        self._file.touch()

    def __call__(self) -> int:
        with self._file.open("a") as file:
            file.write("x")
        return self.count

    @property
    def count(self) -> int:
        return len(self._file.read_text())


@pytest.fixture
def tries(tmp_path) -> Tries:
    """How often something was tried."""
    return Tries(tmp_path)


@pytest.mark.parametrize("engine", list(Engine))
@pytest.mark.parametrize(
    "content", [pdfs.prose(11), pdfs.damaged(3), pdfs.scanned(2)], ids=["prose", "damaged", "scanned"]
)
def test_the_pages_are_those_that_are_read_without_it(path, engine, content):
    """The same text by the same reader, in any order, and the same word on damage."""
    path.write_bytes(content)
    with pdf.opened(path, engine, LIMITS) as document:
        expected = [document.reading(number) for number in range(1, document.page_count + 1)]
        repaired = document.repaired
    with nothing_left_behind(), sandboxed(path, engine) as document:
        readings = [document.reading(number) for number in range(document.page_count, 0, -1)]
        assert (readings[::-1], document.repaired) == (expected, repaired)


@pytest.mark.parametrize(
    ("pdf", "kind", "message"),
    [
        (pdfs.encrypted("secret"), Encrypted, "only with a password"),
        (pdfs.noise_after_a_good_header(), Unreadable, "too damaged"),
        (pdfs.scanned(LIMITS.pages + 1), TooManyPages, "1001 pages"),
    ],
    ids=["encrypted", "unreadable", "too many pages"],
)
def test_a_fault_of_the_document_comes_out_as_itself(path, pdf, kind, message):
    """The class and the sentence, as if there were no other process."""
    path.write_bytes(pdf)
    with nothing_left_behind(), pytest.raises(kind, match=message):
        sandboxed(path)


def test_a_fault_of_the_disk_is_not_the_documents(path):
    """A file that is not there is no `DocumentError`."""
    path.unlink()
    with nothing_left_behind(), pytest.raises(OSError, match="FileNotFoundError"):
        sandboxed(path)


def test_a_password_opens_an_encrypted_file(path):
    """It is known to the process without being sent anywhere."""
    path.write_bytes(pdfs.encrypted("secret"))
    with sandboxed(path, Engine.AUTO, password="secret") as document:
        assert "Page 1" in document.reading(1).page.text


@pytest.mark.parametrize(
    "hang", [lambda: time.sleep(60), lambda: os.kill(os.getpid(), signal.SIGSTOP)], ids=["asleep", "stopped"]
)
def test_a_page_that_takes_too_long_is_left_out(path, reader, hang):
    """In time, without a second try, and the next page is read."""
    reader(lambda number: hang() if number == 2 else None)
    began = time.monotonic()
    with nothing_left_behind():
        assert problems(path, HASTE) == [None, Problem.TIMED_OUT, None]
    assert time.monotonic() - began < HASTE.page_seconds + 2


@pytest.mark.parametrize(
    "crash",
    [lambda: ctypes.string_at(0), lambda: os._exit(0), lambda: sys.exit(3), lambda: os.kill(os.getpid(), 15)],
    ids=["segmentation fault", "exit", "exception", "signal"],
)
def test_a_page_that_brings_the_process_down_is_left_out(path, reader, tries, crash):
    """After two tries; the others are read, and this process lives."""
    reader(lambda number: tries() and crash() if number == 2 else None)
    with nothing_left_behind():
        assert problems(path) == [None, Problem.CRASHED, None]
    assert tries.count == 2


def test_a_process_that_dies_by_chance_costs_nothing(path, reader, tries):
    """The page is there at the second try."""
    reader(lambda number: os.kill(os.getpid(), signal.SIGKILL) if number == 2 and tries() == 1 else None)
    with nothing_left_behind():
        assert problems(path) == [None, None, None]


def test_a_process_that_dies_between_two_pages_costs_nothing(path):
    """A fresh one reads on."""
    with nothing_left_behind(), sandboxed(path) as document:
        document.reading(1)
        max(psutil.Process().children(), key=psutil.Process.create_time).kill()
        assert document.reading(2).page.text


def test_the_next_page_is_read_while_this_one_is_stored(path, reader, tries):
    """As far as the caller said, and no page twice."""
    reader(lambda _number: str(tries()))
    with nothing_left_behind(), sandboxed(path) as document:
        assert document.reading(1, ahead=3).page.text == "1"
        wait_until(lambda: tries.count == 2)
        assert [document.reading(number).page.text for number in (3, 2)] == ["2", "3"]
    assert tries.count == 3


def test_a_page_can_be_read_before_any_is_asked_for(path, reader, tries):
    """It is asked for later, or another is."""
    reader(lambda number: f"{number}, {tries()}")
    for number, expected in ((2, "2, 1"), (1, "1, 3")):
        with nothing_left_behind(), sandboxed(path) as document:
            before = tries.count
            document.look_ahead(2)
            wait_until(lambda before=before: tries.count == before + 1)
            assert document.reading(number).page.text == expected


@pytest.mark.parametrize(
    "problem", [Problem.TIMED_OUT, Problem.CRASHED, pytest.param(Problem.OUT_OF_MEMORY, marks=only_on_linux)]
)
def test_what_happens_ahead_happens_to_the_page_that_is_read(path, reader, problem):
    """It is left out when it is asked for; if another is asked for instead, that one is read."""
    happens = {
        Problem.TIMED_OUT: lambda: time.sleep(60),
        Problem.CRASHED: lambda: ctypes.string_at(0),
        Problem.OUT_OF_MEMORY: lambda: bytes(2 << 30),
    }[problem]
    reader(lambda number: happens() if number == 2 else None)
    with nothing_left_behind(), sandboxed(path, walls=HASTE) as document:
        assert [document.reading(number, number % 3 + 1).problem for number in (1, 2, 3)] == [None, problem, None]
        assert [document.reading(number, ahead=2).problem for number in (1, 3)] == [None, None]


def test_a_process_reads_only_so_many_pages(path, monkeypatch):
    """A fresh one follows it, so what the libraries keep of every page ends; nothing is lost by it."""
    monkeypatch.setattr(sandbox, "PAGES_PER_PROCESS", 2)
    path.write_bytes(pdfs.prose(5))
    processes = []
    with nothing_left_behind(), sandboxed(path) as document:
        for number in range(1, 6):
            assert f"Page {number}:" in document.reading(number).page.text
            processes.append(document._child.pid)
    one, same, two, also, three = processes
    assert (one, two) == (same, also)
    assert len({one, two, three}) == 3


@pytest.mark.parametrize("engine", [Engine.AUTO, Engine.PDFPLUMBER])
def test_memory_does_not_grow_with_the_pages(path, engine):
    """What a page takes is given back: after twice as many, the process has held next to nothing more."""
    path.write_bytes(pdfs.prose(150))
    peaks = []
    for pages in (75, 150):  # by page 70 all that a page may need has been loaded
        with sandboxed(path, engine) as document:
            for number in range(1, pages + 1):
                document.reading(number, number + 1 if number < pages else 0)
        peaks.append(document.peak_bytes)
    few, many = peaks
    assert many - few < 3 << 20


@only_on_linux
def test_a_page_that_takes_too_much_memory_is_left_out(path, reader, tries):
    """By its own name, and without a second try. The memory was never had."""
    reader(lambda number: tries() and bytes(2 << 30) if number == 2 else None)
    with nothing_left_behind():
        assert problems(path) == [None, Problem.OUT_OF_MEMORY, None]
    assert tries.count == 1


@only_on_linux
def test_memory_taken_bit_by_bit_ends_in_the_same_way(path, reader):
    """There is enough left to say so, and what the process held stays below the wall."""

    def eat(_number: int) -> None:
        eaten: tuple = ()
        for bite in (1 << 20, 1 << 10, 10, 1):
            with suppress(MemoryError):
                while True:
                    eaten = (eaten, b"x" * bite + bytes(1))
        raise MemoryError

    reader(eat)
    wall = psutil.Process().memory_info().vms + (100 << 20)  # what is inherited counts
    with sandboxed(path, walls=Walls(20, wall)) as document:
        assert document.reading(1).problem is Problem.OUT_OF_MEMORY
    assert 100 << 20 < document.peak_bytes < wall


@pytest.mark.parametrize("fail", [lambda: time.sleep(60), lambda: ctypes.string_at(0)], ids=["hangs", "crashes"])
def test_a_file_that_cannot_be_opened_is_unreadable(path, monkeypatch, tries, fail):
    """After two tries."""
    monkeypatch.setattr(pdf, "opened", lambda *_: tries() and fail())
    with nothing_left_behind(), pytest.raises(Unreadable, match="could not be opened"):
        sandboxed(path, walls=HASTE)
    assert tries.count == 2


def test_the_caller_hears_of_every_slice_of_waiting(path, reader):
    """About four times a second, during a long page as well as during many short ones."""
    reader(lambda number: time.sleep(1.1 if number == 1 else 0.2))
    ticks = []
    with sandboxed(path, tick=lambda: ticks.append(time.monotonic())) as document:
        document.reading(1)
        assert 3 <= len(ticks) <= 5
        for number in (2, 3, 2):
            document.reading(number)
        assert len(ticks) >= 5


def test_what_the_caller_raises_while_it_waits_comes_out(path, reader):
    """At once, and the process that was reading is gone."""

    class Cancelled(Exception):
        pass

    def cancel() -> None:
        raise Cancelled

    reader(lambda _number: time.sleep(60))
    began = time.monotonic()
    with nothing_left_behind(), pytest.raises(Cancelled):
        sandboxed(path, tick=cancel).reading(1)  # not even closed
    assert time.monotonic() - began < 2


def test_what_the_caller_raises_during_opening_comes_out(path, monkeypatch):
    """There is no sandbox to close then."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pdf, "opened", lambda *_: time.sleep(60))
    with nothing_left_behind(), pytest.raises(KeyboardInterrupt):
        sandboxed(path, tick=interrupt)


@only_on_linux
def test_the_process_dies_with_the_one_that_made_it(path):
    """Even in the middle of a page, when nobody could end it."""
    script = (
        "import os, sys, time; from pathlib import Path; from ingest_worker.stages import pdf;"
        "from ingest_worker.sandbox import *; from ingest_worker.stages.reading import Limits;"
        "from shared.config import Engine;"
        "pdf._text_by_pdfium = lambda *_: (print(os.getpid(), flush=True), time.sleep(60));"
        "o = lambda: pdf.opened(Path(sys.argv[1]), Engine.PDFIUM, Limits(9, 9));"
        "s = Sandbox(o, walls=Walls(60, 2**30), tick=int);"
        "s.reading(1)"
    )
    # the child prints to standard error: its standard output is not the parent's
    with subprocess.Popen([sys.executable, "-c", script, path], stderr=subprocess.PIPE, text=True) as parent:
        pid = int(parent.stderr.readline())
        assert psutil.pid_exists(pid)
        parent.kill()
    wait_until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


@contextmanager
def standard_input(data: bytes):
    """There is something to read from descriptor 0."""
    kept = os.dup(0)
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        os.dup2(file.fileno(), 0)
        yield
    os.dup2(kept, 0)
    os.close(kept)


def test_the_process_holds_nothing_of_its_parents(path, reader):
    """No descriptor, no signal handler, no standard input; a connection that the parent closes is closed."""

    def report(_number: int) -> str:
        handlers = {signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM)}
        core = resource.getrlimit(resource.RLIMIT_CORE)
        return json.dumps([str(handlers), signal.getsignal(signal.SIGINT), core, os.read(0, 1).decode()])

    reader(report)
    ours, theirs = socket.socketpair()
    far = fcntl.fcntl(theirs, fcntl.F_DUPFD, 500)
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        with ours, standard_input(b"x"), sandboxed(path) as document:
            theirs.close()
            os.close(far)
            ours.settimeout(5)
            assert ours.recv(1) == b""
            told = json.loads(document.reading(1).page.text)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert told == [str({signal.SIG_DFL}), signal.SIG_IGN, [0, 0], ""]


def test_a_lock_that_another_thread_holds_stops_nobody(path, reader, monkeypatch, capfd):
    """A thread that is in the middle of writing a line when the process forks: the process can still log."""

    class Stream:
        lock = threading.Lock()

        def write(self, _text: str) -> None:
            with self.lock:
                pass

        def flush(self) -> None:
            pass

    monkeypatch.setattr(logging.getLogger(), "handlers", [logging.StreamHandler(Stream())])
    reader(lambda number: logging.getLogger().error("from page %d", number))
    with Stream.lock:
        assert problems(path, HASTE) == [None, None, None]
    assert "from page 2" in capfd.readouterr().err


def test_a_handler_of_the_parents_does_not_run_in_the_process(path, tmp_path, monkeypatch):
    """Not even for a signal that comes right after the fork: its exception would end up in the parent's code."""
    fork = os.fork
    ran = tmp_path / "ran"

    def fork_under_fire() -> int:
        pid = fork()
        if pid == 0:
            os.kill(os.getpid(), signal.SIGUSR1)
        return pid

    before = signal.signal(signal.SIGUSR1, lambda *_: ran.touch())
    try:
        monkeypatch.setattr(os, "fork", fork_under_fire)
        with pytest.raises(Unreadable):
            sandboxed(path)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert not ran.exists()
