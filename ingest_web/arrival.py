"""Waiting for some documents to be known, all at once."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from shared.errors import StoreUnavailable, UnknownIngestion


class Arrival:
    """What one viewer waits for. Whoever has a document says so, from any thread."""

    def __init__(self, document_ids: Iterable[str]) -> None:
        self._expected = set(document_ids)
        self._missing: list[str] = []
        self._failed = False
        self._over = threading.Event()

    def have(self, document_id: str) -> None:
        """It is known."""
        self._expected.discard(document_id)
        if not self._expected:
            self._over.set()

    def miss(self, document_id: str) -> None:
        """It is known that there is none."""
        self._missing.append(document_id)
        self.have(document_id)

    def fail(self) -> None:
        """It can't be known now."""
        self._failed = True
        self._over.set()

    def wait(self, timeout_seconds: float) -> None:
        """Return when all are known. Raises `UnknownIngestion` with those that are not there, `StoreUnavailable`."""
        if self._expected and not self._over.wait(timeout_seconds):
            raise StoreUnavailable("Redis did not answer in time.")
        if self._failed:
            raise StoreUnavailable("Redis can't be reached.")
        if self._missing:
            raise UnknownIngestion(f"There is no ingestion {', '.join(self._missing)}.", ids=self._missing)
