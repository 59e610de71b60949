"""The document on the desk: opened for its first part, and kept open for the next parts of the same document.

A PDF is opened by each worker. A file without pages is converted by one, and what that has stored is opened by all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from types import TracebackType
from typing import Self

from ingest_worker import conversion
from ingest_worker.conversion import Converted
from ingest_worker.sandbox import Sandbox, Walls
from ingest_worker.stages import parse
from ingest_worker.stages.reading import Limits
from ingest_worker.workbench import Workbench
from shared.media import MediaType
from shared.source import Source
from shared.storage import sections_path
from shared.worklist import Claim


class Desk:
    """Holds one document at a time, for the block.

    ``sections`` is the token under which the sections of the open document are stored; empty for a PDF.
    """

    def __init__(self, bench: Workbench) -> None:
        self.sections = ""
        self._bench = bench
        self._of: tuple[str, int] | None = None
        self._source: Source | None = None
        self._document: Sandbox | Converted | None = None
        self._tick: Callable[[], None] = _go_on
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def source(self, claim: Claim) -> Source:
        """What was uploaded; with the next attempt may come another password. Raises `UnknownIngestion`."""
        of = claim.document_id, claim.attempt
        if self._of != of or self._source is None:
            self._put_away()
            self._of = of
            self._source = self._bench.store.source(claim.document_id)
        return self._source

    def document(self, claim: Claim, tick: Callable[[], None]) -> Sandbox | Converted:
        """The open file. ``tick`` is called often while it is fetched and read, and ends that if it raises.

        Raises `UnknownIngestion` and `shared.errors.DocumentError`.
        """
        source = self.source(claim)
        self._tick = tick
        if self._document is None:
            self._document = self._opened(claim, source)
        return self._document

    def _opened(self, claim: Claim, source: Source) -> Sandbox | Converted:
        if source.media_type != MediaType.PDF:
            return self._converted(claim, source)
        settings = self._bench.settings
        limits = Limits(settings.max_pages, settings.max_page_characters)
        return self._open.enter_context(self._sandbox(source, limits))

    def _converted(self, claim: Claim, source: Source) -> Converted:
        """What it was converted to by whoever opened it first, which may be us."""
        planned = self._bench.worklist.planned(claim.document_id)
        if planned is not None:
            with suppress(FileNotFoundError):  # when Redis has forgotten the end of a document, it went with its pages
                stored = self._stored(claim.document_id, planned["sections"], repaired=planned.get("repaired", False))
                return self._open.enter_context(stored)
        repaired = self._convert(claim, source)
        return self._open.enter_context(self._stored(claim.document_id, claim.token, repaired=repaired))

    @contextmanager
    def _stored(self, document_id: str, token: str, *, repaired: bool) -> Iterator[Converted]:
        path = sections_path(document_id, token)
        with self._bench.storage.as_local_file(path, self._pass_on) as local, local.open("rb") as file:
            self.sections = token
            yield Converted(file, self._bench.settings.max_page_characters, repaired=repaired)

    def _convert(self, claim: Claim, source: Source) -> bool:
        """Store the sections; gives whether the file was found to be damaged."""
        settings, storage = self._bench.settings, self._bench.storage
        limits = conversion.limits(settings.max_pages)
        with (
            self._sandbox(source, limits, pages_per_process=settings.max_pages) as document,  # it converts but once
            storage.writing(sections_path(claim.document_id, claim.token)) as file,
        ):
            conversion.store(document, file, most_characters=settings.max_document_characters)
        return document.repaired

    @contextmanager
    def _sandbox(self, source: Source, limits: Limits, pages_per_process: int | None = None) -> Iterator[Sandbox]:
        settings = self._bench.settings
        with self._bench.storage.as_local_file(source.path, self._pass_on) as path:
            password = self._bench.seal.open(source.sealed_password) if source.sealed_password else None
            opening = partial(parse.opened, path, source.media_type, source.options.engine, limits, password)
            walls = Walls(settings.page_seconds, settings.parse_address_space_bytes)
            with Sandbox(opening, walls=walls, tick=self._pass_on, pages_per_process=pages_per_process) as document:
                yield document

    def _pass_on(self) -> None:
        self._tick()

    @property
    def repaired(self) -> bool:
        """Whether the open file was found damaged."""
        return self._document is not None and self._document.repaired

    def _put_away(self) -> None:
        self._of = self._source = self._document = None
        self.sections = ""
        self._tick = _go_on
        self._open.close()


def _go_on() -> None:
    """What is ticked while nobody listens."""
