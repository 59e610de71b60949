"""Watching documents that are added while others are being watched already, on as few streams as that takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Condition, Thread

from ingest_client.client import Client
from ingest_client.errors import ClientError
from ingest_client.stream import MOST_DOCUMENTS, Stream
from shared.protocol import State

#: A stream that gets documents is opened anew, so those that are added within so long of each other are added together.
GATHER_SECONDS = 0.25


class Following:
    """Documents under watch. ``show`` hears every new state, in threads of this object's own."""

    def __init__(self, client: Client, show: Callable[[State], None]) -> None:
        self._client = client
        self._show = show
        self._changed = Condition()
        self._waiting: list[str] = []
        self._streams: list[Stream] = []
        self._trouble: ClientError | None = None
        Thread(target=self._gather, daemon=True).start()

    def add(self, *document_ids: str) -> None:
        """Watch these too. It returns at once."""
        with self._changed:
            self._waiting.extend(document_ids)
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
                for stream in self._streams:
                    if newcomers := self._next(stream.room):
                        stream.add(newcomers)
                while newcomers := self._next(MOST_DOCUMENTS):
                    self._open(newcomers)
            time.sleep(GATHER_SECONDS)

    def _next(self, most: int) -> list[str]:
        taken = self._waiting[:most]
        del self._waiting[:most]
        return taken

    def _open(self, document_ids: list[str]) -> None:
        stream = self._client.stream(*document_ids)
        self._streams.append(stream)
        Thread(target=self._watch, args=(stream,), daemon=True).start()

    def _watch(self, stream: Stream) -> None:
        trouble = None
        try:
            while self._goes_on(stream):
                for state in stream:
                    self._show(state)
        except ClientError as error:
            trouble = error
        finally:
            self._end(stream, trouble)

    def _goes_on(self, stream: Stream) -> bool:
        with self._changed:
            if stream.finished:
                self._end(stream)  # before the lock is given back, or documents could be added to it
            return not stream.finished

    def _end(self, stream: Stream, trouble: ClientError | None = None) -> None:
        with self._changed:
            if stream in self._streams:
                self._streams.remove(stream)
            self._trouble = self._trouble or trouble
            self._changed.notify_all()
