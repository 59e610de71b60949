"""From events to states: which of them are news, where to resume, and when it is over. Pure.

Event ids are opaque here: the last one is given back to the server as it came. Whether an event was seen before is
told by its number *and* its time: after a server has lost its last second, numbers may come a second time with news.
"""

from __future__ import annotations

from collections.abc import Iterable

from httpx_sse import ServerSentEvent

from shared.protocol import Seq, State

#: The one kind of event that carries a state.
EVENT = "progress"

DEFAULT_RETRY_SECONDS = 2.0


class Sequence:
    """What has been seen of some documents over any number of connections."""

    def __init__(self, ids: Iterable[str]) -> None:
        self.ids = tuple(dict.fromkeys(ids))
        self.last_event_id = ""
        self.retry_seconds = DEFAULT_RETRY_SECONDS
        self._seen: dict[str, set[tuple[Seq, str]]] = {document_id: set() for document_id in self.ids}
        self._running = set(self.ids)

    @property
    def running(self) -> int:
        """The number of documents of which the last word has not been seen."""
        return len(self._running)

    @property
    def finished(self) -> bool:
        """Whether the last word on every document has been seen."""
        return not self._running

    def grow(self, ids: Iterable[str]) -> None:
        """Take further documents in, and leave out those that are over.

        The place to resume from is one of the documents before: from here on the states come as they stand.
        """
        still = [document_id for document_id in self.ids if document_id in self._running]
        self.ids = tuple(dict.fromkeys([*still, *ids]))
        self.last_event_id = ""
        self._running.update(self.ids)
        for document_id in self.ids:
            self._seen.setdefault(document_id, set())

    def finish(self) -> None:
        """The server says that there is nothing more to come."""
        self._running.clear()

    def take(self, event: ServerSentEvent) -> State | None:
        """The state that an event brings, or None when it brings no news. Raises `ValueError` when it can't be read."""
        if event.retry is not None:
            self.retry_seconds = event.retry / 1000
        if event.id:
            self.last_event_id = event.id
        if event.event != EVENT:
            return None
        return self._if_news(State.from_json(event.data))

    def _if_news(self, state: State) -> State | None:
        seen = self._seen.get(state.id)
        moment = (state.seq, state.at)
        if seen is None or moment in seen:
            return None
        seen.add(moment)
        # Not final after final: somebody asked for the next attempt.
        (self._running.discard if state.is_final else self._running.add)(state.id)
        return state
