"""The document on the desk: opened for its first part, and kept open for the next parts of the same document."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from ingest_worker.sandbox import Sandbox, Walls
from ingest_worker.stages import parse
from ingest_worker.stages.reading import Limits
from ingest_worker.workbench import Workbench
from shared.source import Source
from shared.worklist import Claim


class Desk:
    """Holds one document at a time, for the block."""

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench
        self._of: tuple[str, int] | None = None
        self._source: Source | None = None
        self._document: Sandbox | None = None
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

    def document(self, claim: Claim, tick: Callable[[], None]) -> Sandbox:
        """The open file. ``tick`` is called often while it is fetched and read, and ends that if it raises.

        Raises `UnknownIngestion` and `shared.errors.DocumentError`.
        """
        source = self.source(claim)
        self._tick = tick
        if self._document is None:
            path = self._open.enter_context(self._bench.storage.as_local_file(source.path, tick))
            self._document = self._open.enter_context(self._sandbox(path, source))
        return self._document

    def _sandbox(self, path: Path, source: Source) -> Sandbox:
        settings = self._bench.settings
        opening = partial(
            parse.opened,
            path,
            source.media_type,
            source.options.engine,
            Limits(settings.max_pages, settings.max_page_characters),
            self._bench.seal.open(source.sealed_password) if source.sealed_password else None,
        )
        walls = Walls(settings.page_seconds, settings.parse_address_space_bytes)
        return Sandbox(opening, walls=walls, tick=self._pass_on)

    def _pass_on(self) -> None:
        self._tick()

    @property
    def repaired(self) -> bool:
        """Whether the open file was found damaged."""
        return self._document is not None and self._document.repaired

    def _put_away(self) -> None:
        self._of = self._source = self._document = None
        self._tick = _go_on
        self._open.close()


def _go_on() -> None:
    """What is ticked while nobody listens."""
