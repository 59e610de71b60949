"""The pages of a PDF, read in a process of its own: a file is untrusted bytes, and only a kill bounds what it costs.

Whatever the file does there (loops, takes memory without end, brings down a library) costs one page, which is left out
and named; the next page is read by a fresh process. Nothing is kept between pages but what makes the next one faster.
While the caller stores a page, the process reads the one after it.

A page that crashed the process is tried once more: the kernel, short of memory, or an operator may have hit it by
chance. One that took too long or too much memory is not: it would again.
"""

from __future__ import annotations

import errno
import json
import socket
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

import structlog

from ingest_worker.child import Child, Died
from ingest_worker.stages.reading import Document, Problem, Reader, Reading
from shared.documents import page_from, to_json
from shared.errors import DocumentError, Unreadable

log = structlog.get_logger(__name__)

T = TypeVar("T")

#: The caller hears of every slice of waiting.
SLICE_SECONDS = 0.25

#: A process is followed by a fresh one then: the libraries keep something of every page, some 1 KB of most.
PAGES_PER_PROCESS = 2000

#: Made beforehand, as nothing can be made any more by then.
_OUT_OF_MEMORY = b'{"lost":"out_of_memory"}\n'

_ERRORS = {kind.code: kind for kind in DocumentError.__subclasses__()}


@dataclass(frozen=True, slots=True)
class Walls:
    """What a page may cost. ``address_space_bytes`` holds on Linux only, and for all of the process.

    So what it inherits counts, 134 MB from a child of the pool; to read ordinary pages takes some 80 MB more.
    """

    page_seconds: float
    address_space_bytes: int


class _Lost(Exception):
    """There will be no answer."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem


class Sandbox:
    """A document that is open in another process: the `Document` that ``opening`` gives, a page at a time.

    ``tick`` is called about every quarter of a second while pages are awaited; what it raises comes out of whatever was
    called, and the process is gone by then. After ``pages_per_process`` a fresh one opens the file anew. ``peak_bytes``
    is the most memory that a process which has ended ever held. Raises what ``opening`` raises of `DocumentError`, and
    `Unreadable` when the file can't be opened within the walls.
    """

    def __init__(
        self,
        opening: Callable[[], AbstractContextManager[Document]],
        *,
        walls: Walls,
        tick: Callable[[], None],
        pages_per_process: int | None = None,
    ) -> None:
        self.repaired = False
        self.unit = ""
        self.peak_bytes = 0
        self._work = partial(_serve, opening)
        self._walls = walls
        self._tick = tick
        self._pages_per_process = pages_per_process or PAGES_PER_PROCESS
        self._tick_due = time.monotonic() + SLICE_SECONDS
        self._child: Child | None = None
        self._pages_read = 0
        self._ahead: int | None = None
        self.page_count = self._open()

    def reading(self, number: int, ahead: int = 0) -> Reading:
        """The page ``number``, from 1. One that can't be read within the walls is left out.

        The page ``ahead`` will be asked for next, most likely; 0: that is not known.
        """
        try:
            return self._again_after({Problem.CRASHED}, partial(self._read, number, ahead))
        except _Lost as lost:
            return Reading.left_out(number, lost.problem)

    def look_ahead(self, number: int) -> None:
        """The page ``number`` will be asked for first, most likely."""
        if self._child and self._ahead is None:
            with suppress(Died):  # whoever asks for the page finds out
                self._child.send(b"0 %d" % number)
            self._ahead = number

    def close(self) -> None:
        """End the process, if there is one."""
        if self._child:
            child, self._child, self._ahead = self._child, None, None
            ended = child.end()
            self.peak_bytes = max(self.peak_bytes, ended.peak_bytes)
            log.debug("sandbox.child_ended", pid=child.pid, code=ended.code, peak_bytes=ended.peak_bytes)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, number: int, ahead: int) -> Reading:
        # Who reads another page ahead may be at it for long, and that is no fault of this one.
        if self._pages_read == self._pages_per_process or self._ahead not in {None, number}:
            self.close()
        if not self._child:
            self._open()
        self._pages_read += 1
        values = self._ask(b"%d %d" % (number, ahead))
        self._ahead = ahead or None
        self.repaired |= values["repaired"]
        problem = values["problem"]
        page = page_from(values["page"])
        return Reading(page, Reader(values["reader"]), values["fell_back"], Problem(problem) if problem else None)

    def _open(self) -> int:
        try:
            return self._again_after({Problem.CRASHED, Problem.TIMED_OUT}, self._start)
        except _Lost as lost:
            raise Unreadable("The file could not be opened: that took too much time or memory.") from lost

    def _start(self) -> int:
        self._child = Child(self._work, self._walls.address_space_bytes)
        self._pages_read = 0
        answer = self._ask(None)
        self.unit = answer["unit"]
        return int(answer["page_count"])

    def _again_after(self, problems: set[Problem], attempt: Callable[[], T]) -> T:
        try:
            return attempt()
        except _Lost as lost:
            if lost.problem not in problems:
                raise
        return attempt()

    def _ask(self, request: bytes | None) -> dict[str, Any]:
        """What the process answers, or what it says first of all. When there is no answer the process is gone."""
        try:
            return _understood(self._awaited(request))
        except Died as died:
            self.close()
            raise _Lost(Problem.CRASHED) from died
        except BaseException:
            self.close()
            raise

    def _awaited(self, request: bytes | None) -> bytes:
        child = self._child
        if not child:
            raise Died
        if request:
            child.send(request)
        deadline = time.monotonic() + self._walls.page_seconds
        while (now := time.monotonic()) < deadline:
            if now >= self._tick_due:
                self._tick()
                self._tick_due = now + SLICE_SECONDS
            if answer := child.receive(min(SLICE_SECONDS, deadline - now)):
                return answer
        raise _Lost(Problem.TIMED_OUT)


def _understood(answer: bytes) -> dict[str, Any]:
    match json.loads(answer):
        case {"lost": problem}:
            raise _Lost(Problem(problem))
        case {"error": code, "detail": detail}:
            raise _ERRORS[code](detail)
        case {"fault": message, "errno": number}:
            raise OSError(number, message)  # of the class that belongs to the number
        case values:
            return dict(values)


def _serve(opening: Callable[[], AbstractContextManager[Document]], line: socket.socket) -> None:
    """What the process does: it opens the file, and then answers each number but 0 with that page."""
    try:
        with opening() as document:
            line.sendall(_told(page_count=document.page_count, unit=document.unit))
            answer: bytes | None = None
            for request in line.makefile("rb"):
                number, ahead = map(int, request.split())
                if number:
                    line.sendall(answer or _answer(document, number))
                answer = _answer_ahead(document, ahead) if ahead else None
    except MemoryError:
        line.sendall(_OUT_OF_MEMORY)
    except DocumentError as error:
        line.sendall(_told(error=error.code, detail=error.detail))
    except OSError as error:  # the disk's fault, not the document's
        missing = isinstance(error, FileNotFoundError)  # PDFium's has no number
        line.sendall(_told(fault=repr(error), errno=errno.ENOENT if missing else error.errno))


def _answer(document: Document, number: int) -> bytes:
    reading = document.reading(number)
    return _told(
        page=reading.page,
        reader=reading.reader,
        fell_back=reading.fell_back,
        problem=reading.problem,
        repaired=document.repaired,
    )


def _answer_ahead(document: Document, number: int) -> bytes | None:
    """The answer to what will be asked, if anything; None when it is better tried once more."""
    try:
        return _answer(document, number)
    except MemoryError:
        return _OUT_OF_MEMORY
    except (DocumentError, OSError):
        return None


def _told(**values: object) -> bytes:
    return to_json(values) + b"\n"
