"""From the outboxes in Redis to deliveries in the database, so that nothing that has happened remains untold.

What is taken over is entered first and dropped then. A crash in between, or two who do it at once, enter it again,
which changes nothing.
"""

from __future__ import annotations

import structlog

from shared.deliveries import Deliveries
from shared.outbox import Outbox
from shared.webhooks import Message, of_entry

log = structlog.get_logger(__name__)

#: So many outboxes are taken over together.
BATCH = 100


class Collector:
    """Takes over what is in the outboxes."""

    def __init__(self, outbox: Outbox, deliveries: Deliveries) -> None:
        self._outbox = outbox
        self._deliveries = deliveries

    def collect(self) -> bool:
        """Take over a batch, if there is one and it is this courier's turn. Gives whether there may be more.

        Raises `StoreUnavailable`.
        """
        if not self._outbox.is_ours():
            return False
        filled = self._outbox.filled(BATCH)
        if not filled:
            return False
        found = self._outbox.entries(filled)
        entered = self._deliveries.enter([message for entries in found for message in _messages(entries)])
        self._outbox.drop(list(zip(filled, found, strict=True)))
        if entered:
            self._outbox.wake()
        return len(filled) == BATCH


def _messages(entries: dict[int, bytes]) -> list[Message]:
    messages = []
    for seq, entry in entries.items():
        try:
            messages.append(of_entry(entry))
        except (ValueError, KeyError):  # of a later version, say; one such must not hold up all others
            log.exception("outbox.entry_unreadable", seq=seq)
    return messages
