"""Server-Sent Events as bytes (WHATWG HTML, section 9.2). Pure."""

from __future__ import annotations

#: A line that every client ignores, and every proxy counts as life.
HEARTBEAT = b":\n\n"

#: As numbers, for which a search is five times as fast.
_LINE_FEED, _CARRIAGE_RETURN = b"\n\r"

#: What a stream is announced with. `no-store` and `X-Accel-Buffering` keep caches and nginx from holding it back.
HEADERS: dict[str, str] = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
}


def comment(text: str) -> bytes:
    """For whoever looks at the stream itself; every client ignores it. Raises `ValueError` for more than one line."""
    if "\n" in text or "\r" in text:
        raise ValueError("a comment is one line")
    return b": %b\n\n" % text.encode()


def retry(milliseconds: int) -> bytes:
    """How long the client waits before it reconnects, from now on."""
    return b"retry: %d\n\n" % milliseconds


def event(event_id: bytes, name: bytes, data: bytes) -> bytes:
    """A whole event. ``data`` must be one line. Raises `ValueError` when it is not."""
    if _LINE_FEED in data or _CARRIAGE_RETURN in data:
        raise ValueError("the data of an event is one line here")
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (event_id, name, data)


def with_id(event_id: bytes, frame: bytes) -> bytes:
    """The same `event` under another id: the line that a client remembers as its Last-Event-ID."""
    return b"id: %b\n%b" % (event_id, frame.partition(b"\n")[2])
