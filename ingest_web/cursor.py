"""Where a viewer stands in the documents that it watches, and the event ids that say so. Pure.

The event id of a stream is the sequence number of each of its documents, in the order in which they were asked for,
joined by dots: ``17`` for one document, ``17.4.0`` for three. 0 means that nothing of that document was sent. So one
``Last-Event-ID`` resumes all of them, on any node, and no node needs to remember anyone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ingest_web import sse
from ingest_web.events import Event
from shared.protocol import Seq

#: Redis holds sequence numbers as 64-bit integers; more digits than this are no number of ours.
_EVENT_ID = re.compile(r"\d{1,15}(\.\d{1,15})*", re.ASCII)


_NONE: frozenset[str] = frozenset()


class Cursor:
    """For each document, the last event that was sent, and whether that was its final one."""

    __slots__ = ("_final", "_parts", "_places", "_seqs", "finished")

    def __init__(self, ids: Sequence[str], last_event_id: str | None = None) -> None:
        """``last_event_id`` that does not fit these ids counts as none: the viewer then gets the state as it stands."""
        seqs = parse_event_id(last_event_id, len(ids)) or [0] * len(ids)
        self._seqs: dict[str, Seq] = dict(zip(ids, seqs, strict=True))
        #: Of several documents: the parts of the event id, and which is whose. Kept, since all are in every frame.
        self._parts = [b"%d" % seq for seq in seqs] if len(ids) > 1 else []
        self._places = {document_id: n for n, document_id in enumerate(ids)} if len(ids) > 1 else {}
        self._final = _NONE
        #: Whether the final event of every document has been sent.
        self.finished = False

    @property
    def ids(self) -> tuple[str, ...]:
        """The documents, in the order in which they were asked for."""
        return tuple(self._seqs)

    @property
    def count(self) -> int:
        """How many documents that are."""
        return len(self._seqs)

    @property
    def event_id(self) -> str:
        """What the viewer shall remember."""
        return ".".join(map(str, self._seqs.values()))

    def seq(self, document_id: str) -> Seq:
        """The last event of a document that was sent; 0 for none."""
        return self._seqs[document_id]

    def frame(self, event: Event) -> bytes:
        """The event as this viewer must get it, noted as sent; empty when it is no news."""
        if event.seq <= self._seqs[event.document_id]:
            return b""
        self._put(event.document_id, event.seq)
        if event.is_final or self._final:  # this runs for every delivery, and hardly ever has anything to note
            self._note(event.document_id, event.is_final)
        return sse.with_id(b".".join(self._parts), event.frame) if self._parts else event.frame

    def rewind(self, event: Event) -> None:
        """Events of this number and later that were sent never happened: Redis has lost them. Want them anew."""
        if self._seqs[event.document_id] >= event.seq:
            self._put(event.document_id, event.seq - 1)
            self._note(event.document_id, is_final=False)

    def settle(self, document_id: str, seq: Seq) -> None:
        """Note that the document is final and that the viewer has seen its final event, ``seq``, before."""
        self._put(document_id, seq)
        self._note(document_id, is_final=True)

    def _put(self, document_id: str, seq: Seq) -> None:
        self._seqs[document_id] = seq
        if self._parts:
            self._parts[self._places[document_id]] = b"%d" % seq

    def _note(self, document_id: str, is_final: bool) -> None:
        self._final = self._final | {document_id} if is_final else self._final - {document_id}
        self.finished = len(self._final) == len(self._seqs)


def parse_event_id(value: str | None, count: int) -> list[Seq] | None:
    """The sequence numbers in an event id for ``count`` documents; None for one that is not of ours."""
    if not value or not _EVENT_ID.fullmatch(value):
        return None
    seqs = [int(part) for part in value.split(".")]
    return seqs if len(seqs) == count else None
