"""The document on the desk: opened for its first part, and kept open for the next parts of the same document."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import Self

from ingest_worker.stages import parse
from ingest_worker.workbench import Workbench
from shared.store import Source


class Desk:
    """Holds one document at a time, for the block."""

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench
        self._document_id: str | None = None
        self._source: Source | None = None
        self._document: parse.Document | None = None
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def source(self, document_id: str) -> Source:
        """What was uploaded. Raises `UnknownIngestion`."""
        if self._document_id != document_id or self._source is None:
            self._put_away()
            self._document_id = document_id
            self._source = self._bench.store.source(document_id)
        return self._source

    def document(self, document_id: str) -> parse.Document:
        """The open file. Raises `UnknownIngestion` and `shared.errors.DocumentError`."""
        source = self.source(document_id)
        if self._document is None:
            settings = self._bench.settings
            limits = parse.Limits(settings.max_pages, settings.max_page_characters)
            path = self._open.enter_context(self._bench.storage.as_local_file(source.path))
            self._document = self._open.enter_context(parse.opened(path, source.options.engine, limits))
        return self._document

    @property
    def repaired(self) -> bool:
        """Whether the open file was found damaged."""
        return self._document is not None and self._document.repaired

    def _put_away(self) -> None:
        self._document_id = self._source = self._document = None
        self._open.close()
