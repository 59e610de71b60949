"""Load: the chunks of a document into the database, in the place of what it had there."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from shared.database import ChunkTable
from shared.documents import Chunk


def load(table: ChunkTable, document_id: str, chunks: Iterable[Chunk], loaded: Callable[[int], None]) -> None:
    """Replace the document's rows, all or nothing; loading the same chunks again changes nothing.

    ``loaded`` hears the count so far, the last time before the rows become visible: when it raises, because the
    document was cancelled, nothing is changed.
    """
    table.replace(document_id, chunks, loaded)
