"""What a viewer is sent to be brought up to date, from what Redis holds. Pure.

The order in which a viewer joins is what makes it right: subscribe, wait for Redis to confirm, read, then `catch_up`,
then whatever came in over the subscription meanwhile, as far as `Cursor.wants` it. So there is no gap and nothing
twice.
"""

from __future__ import annotations

from ingest_web.events import Event
from shared.protocol import Seq
from shared.store import History


def catch_up(history: History, seen: Seq) -> list[Event]:
    """The events that bring a viewer up to date which has seen the events of a document up to ``seen`` (0: none).

    - It has seen none: the state as it stands.
    - The stream still holds all it missed: just that, in order; nothing, when it missed nothing.
    - The stream has been trimmed past it: the state as it stands, and nothing invented in between.
    - It has seen more than there is (Redis lost its last second): the state as it stands, as a rewind.

    ``history.state`` must not be None.
    """
    assert history.state is not None  # noqa: S101 - for the type checker; the callers have answered 404 before
    state = Event.from_json(history.state)
    if seen == 0:
        return [state]
    if state.seq < seen and not history.events:
        return [Event.from_json(history.state, rewinds=True)]
    if not history.events:
        return [] if state.seq == seen else [state]
    first_seq, _ = history.events[0]
    if first_seq != seen + 1:
        return [_newest(state, history)]
    return [Event.from_json(data) for _, data in history.events]


def _newest(state: Event, history: History) -> Event:
    # The events are read after the state, so one may have come in between.
    last = Event.from_json(history.events[-1][1])
    return last if last.seq > state.seq else state
