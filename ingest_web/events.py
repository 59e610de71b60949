"""An event on its way through a web process: what was published, encoded for the wire once, however many watch.
Pure."""

from __future__ import annotations

import json
from typing import Self

from ingest_web import sse
from shared.jobs import FINAL
from shared.protocol import Seq

#: The one kind of event.
NAME = "progress"


class Event:
    """One state of one document.

    ``frame`` is the whole event for a stream of this document alone; ``body`` lacks the id, for streams of several. An
    event that ``rewinds`` tells the truth after Redis has lost its last second: its number may be lower than what was
    sent.
    """

    __slots__ = ("body", "document_id", "frame", "is_final", "rewinds", "seq")

    def __init__(self, document_id: str, seq: Seq, is_final: bool, data: bytes, *, rewinds: bool = False) -> None:
        self.document_id = document_id
        self.seq = seq
        self.is_final = is_final
        self.rewinds = rewinds
        self.body = sse.body(NAME, data)
        self.frame = sse.event_id(str(seq)) + self.body

    @classmethod
    def from_json(cls, data: bytes, *, rewinds: bool = False) -> Self:
        """The event that carries a state. Raises `ValueError` for anything else."""
        try:
            state = json.loads(data)
            return cls(state["id"], state["seq"], state["status"] in FINAL, data, rewinds=rewinds)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a state: {data!r:.200}") from error

    def __repr__(self) -> str:
        return f"<Event {self.document_id} {self.seq}{' final' if self.is_final else ''}>"
