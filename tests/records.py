"""Documents as records alone: what a worker would write, without a file and without a worker."""

from __future__ import annotations

from ingest_web import ids
from shared.jobs import Status
from shared.options import Options
from shared.protocol import Failure
from shared.source import Source
from shared.store import Store

SOURCE = Source("a.pdf", "application/pdf", 7, "ab" * 32, "d/source", Options(chunk_size=1000, chunk_overlap=100))


def new_document(store: Store) -> str:
    """The id of a document that is PENDING, at event 1."""
    document_id = ids.new_id()
    store.create(document_id, SOURCE)
    return document_id


def finish(store: Store, document_id: str) -> None:
    """One event more, the final one."""
    store.record(document_id, 1, Status.FAILED, "Failed", error=Failure("unreadable", "No."))


def complete(store: Store, document_id: str) -> None:
    """As a worker would leave it: COMPLETED, and its result is found by the next upload of the same bytes."""
    for status in (Status.PARSING, Status.CHUNKING, Status.LOADING, Status.COMPLETED):
        store.record(document_id, 1, status, "moved")
    store.remember_result(document_id, store.source(document_id))
