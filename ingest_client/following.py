"""Watching documents that are added while others are being watched already, on as few streams as that takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Condition, Thread

from ingest_client.client import Client
from ingest_client.errors import ClientError
from shared.protocol import State

#: What fits into the first line of a request (4094 bytes for gunicorn).
DOCUMENTS_PER_STREAM = 100

#: Documents added within so long of each other share a stream.
GATHER_SECONDS = 0.25


class Following:
    """Documents under watch. ``show`` hears every new state, in threads of this object's own."""

    def __init__(self, client: Client, show: Callable[[State], None]) -> None:
        self._client = client
        self._show = show
        self._changed = Condition()
        self._waiting: list[str] = []
        self._streams = 0
        self._trouble: ClientError | None = None
        Thread(target=self._gather, daemon=True).start()

    def add(self, document_id: str) -> None:
        """Watch this one too. It returns at once."""
        with self._changed:
            self._waiting.append(document_id)
            self._changed.notify_all()

    def wait(self) -> None:
        """Return when the last word on all documents has been heard. Raises the first `ClientError` of any stream."""
        with self._changed:
            self._changed.wait_for(lambda: self._trouble or not (self._waiting or self._streams))
            if self._trouble:
                raise self._trouble

    def _gather(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                batch = self._waiting[:DOCUMENTS_PER_STREAM]
                del self._waiting[:DOCUMENTS_PER_STREAM]
                self._streams += 1
            Thread(target=self._watch, args=batch, daemon=True).start()
            time.sleep(GATHER_SECONDS)

    def _watch(self, *document_ids: str) -> None:
        trouble = None
        try:
            for state in self._client.watch(*document_ids):
                self._show(state)
        except ClientError as error:
            trouble = error
        finally:
            with self._changed:
                self._streams -= 1
                self._trouble = self._trouble or trouble
                self._changed.notify_all()
