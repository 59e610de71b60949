"""What a viewer is sent to be brought up to date, from what Redis holds. Pure.

The order in which a viewer joins is what makes it right: subscribe, wait for Redis to confirm, read, then `catch_up`,
then whatever came in over the subscription meanwhile, as far as it is news to the `Cursor`. So there is no gap and
nothing twice.
"""

from __future__ import annotations

from ingest_web.events import Event
from shared.protocol import Seq
from shared.store import History

#: Who missed more than this is sent the state as it stands: it says all that these events would have said one by one,
#: and a thousand viewers that come back from a long outage cost little more than a thousand that are new.
REPLAY_EVENTS = 48


def catch_up(history: History, seen: Seq) -> list[Event]:
    """The events that bring a viewer up to date which has seen the events of a document up to ``seen`` (0: none).

    - It has seen none: the state as it stands.
    - The stream still holds all it missed, and that is no more than `REPLAY_EVENTS`: just that, in order; nothing,
      when it missed nothing.
    - The stream has been trimmed past it, or it missed more: the state as it stands, and nothing invented in between.
    - It has seen more than there is (Redis lost its last second): the state as it stands, as a rewind.

    ``history.state`` must not be None, and ``history.events`` must be those after ``seen``, as many as there are up to
    one more than `REPLAY_EVENTS`; of no matter when ``seen`` is 0.
    """
    state = newest(history)
    if seen == 0:
        return [state]
    if state.seq < seen:
        return [state.as_rewind()]
    if state.seq == seen:
        return []
    seqs = [seq for seq, _ in history.events]
    if seqs and seqs[0] == seen + 1 and len(seqs) <= REPLAY_EVENTS and seqs[-1] == state.seq:
        return [Event.from_json(data) for _, data in history.events]
    return [state]


def newest(history: History) -> Event:
    """The state as it stands. The events are read after the state, so one may have come in between."""
    state = Event.from_json(_state_of(history))
    if history.events and history.events[-1][0] > state.seq:
        return Event.from_json(history.events[-1][1])
    return state


def _state_of(history: History) -> bytes:
    assert history.state is not None  # noqa: S101 - for the type checker; callers have answered 404 before
    return history.state
