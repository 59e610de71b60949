"""From the outboxes in Redis to deliveries in the database, so that nothing that has happened remains untold.

What is taken over is entered first and dropped then. A crash in between, or two who do it at once, enter it again,
which changes nothing. An entry that can't be read, of a later version, say, stays where it is for a courier that can;
its document is looked at after all others.
"""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from shared.deliveries import Deliveries
from shared.outbox import Outbox
from shared.webhooks import Message, of_entries

log = structlog.get_logger(__name__)

#: So many outboxes are taken over together.
BATCH = 100


class Collector:
    """Takes over what is in the outboxes."""

    def __init__(self, outbox: Outbox, deliveries: Deliveries) -> None:
        self._outbox = outbox
        self._deliveries = deliveries
        self._unreadable: set[tuple[str, int]] = set()

    def collect(self) -> bool:
        """Take over a batch, if there is one and it is this courier's turn. Gives whether there may be more.

        Raises `StoreUnavailable`.
        """
        if not self._outbox.is_ours():
            return False
        filled = self._outbox.filled(BATCH)
        if not filled:
            return False
        found = self._outbox.entries(one.document_id for one in filled)
        read = [self._read(one.document_id, entries) for one, entries in zip(filled, found, strict=True)]
        entered = self._deliveries.enter([message for messages in read for message in messages.values()])
        both = zip(filled, found, read, strict=True)
        unread = [one for one, entries, messages in both if len(messages) < len(entries)]
        self._outbox.put_off(unread)
        self._outbox.drop(list(zip(filled, read, strict=True)))
        if entered:
            self._outbox.wake()
        return len(filled) == BATCH and (bool(entered) or len(unread) < BATCH)

    def _read(self, document_id: str, entries: Mapping[int, bytes]) -> dict[int, Message]:
        messages, unreadable = of_entries(entries)
        for seq, error in unreadable.items():
            self._note_unreadable(document_id, seq, error)
        return messages

    def _note_unreadable(self, document_id: str, seq: int, error: Exception) -> None:
        """Say so once: it is come across again and again."""
        if (document_id, seq) not in self._unreadable:
            self._unreadable.add((document_id, seq))
            log.error("outbox.entry_unreadable", id=document_id, seq=seq, exc_info=error)
