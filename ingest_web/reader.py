"""Reading documents for those who wait for it: all that is asked for at once in one round trip.

One thread of its own (a greenlet under gevent) reads, so a thousand viewers that join in the same moment cost Redis one
connection and a handful of requests. It knows nothing of viewers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping

import structlog

from shared.errors import IngestError
from shared.store import Ask, History

log = structlog.stdlib.get_logger(__name__)

Histories = Callable[[Iterable[Ask]], Mapping[Ask, History]]

#: Is given what was asked for; None when Redis could not be read.
Answer = Callable[[History | None], None]

#: Documents in one round trip. Making sense of the answer holds the event loop for some 50 us each.
BATCH = 48


class Reader:
    """Reads one batch after the other; what is asked for meanwhile makes the next."""

    def __init__(self, histories: Histories) -> None:
        self._histories = histories
        self._changed = threading.Condition()
        self._asked: dict[Ask, list[Answer]] = {}
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """Return when nothing more will be read; who still waits is answered None."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()
        self._answer(self._asked, {})

    def ask(self, ask: Ask, answer: Answer) -> None:
        """Have ``answer`` called, in the reader's thread, with what Redis holds from now on."""
        with self._changed:
            self._asked.setdefault(ask, []).append(answer)
            self._changed.notify()

    def _run(self) -> None:
        while batch := self._next_batch():
            try:
                found = self._histories(batch)
            except IngestError as error:
                log.warning("reader.failed", code=error.code, detail=error.detail, documents=len(batch))
                found = {}
            except Exception:  # a fault of ours must not leave every viewer of this process waiting
                log.exception("reader.failed")
                found = {}
            self._answer(batch, found)

    def _next_batch(self) -> dict[Ask, list[Answer]]:
        with self._changed:
            while not (self._asked or self._stopped):
                self._changed.wait()
            if self._stopped:
                return {}
            names = list(self._asked)[:BATCH]
            return {name: self._asked.pop(name) for name in names}

    def _answer(self, batch: Mapping[Ask, list[Answer]], found: Mapping[Ask, History]) -> None:
        for ask, answers in batch.items():
            for answer in answers:
                try:
                    answer(found.get(ask))
                except Exception:  # what one can't make use of, others wait for
                    log.exception("reader.answer_failed", document_id=ask[0])
