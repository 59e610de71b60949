"""Several streams read as one: for those who watch more documents than one stream carries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from queue import Empty, Queue
from threading import Thread

from ingest_client.errors import ClientError
from ingest_client.stream import Stream
from shared.protocol import State

#: States that have been read and not been taken. When there are more, nothing is read, and the server conflates.
MOST_STATES = 1000


def confluence(streams: Sequence[Stream]) -> Iterator[State]:
    """The states of all streams as they come, to the end of the last. Raises the first `ClientError` of any.

    Each stream is read in a thread of its own; whoever stops iterating ends them all.
    """
    news: Queue[State | ClientError | None] = Queue(MOST_STATES)
    for stream in streams:
        Thread(target=_read, args=(stream, news), daemon=True).start()
    flowing = len(streams)
    try:
        while flowing:
            item = news.get()
            if isinstance(item, State):
                yield item
            elif item is None:
                flowing -= 1
            else:
                raise item
    finally:
        for stream in streams:
            stream.stop()
        # A thread that waits for room puts one thing more, and is done.
        with suppress(Empty):
            while True:
                news.get_nowait()


def _read(stream: Stream, news: Queue[State | ClientError | None]) -> None:
    try:
        for state in stream:
            news.put(state)
    except ClientError as error:
        news.put(error)
    else:
        news.put(None)
