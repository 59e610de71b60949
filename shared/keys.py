"""The names of everything in Redis. No key literal stands anywhere else.

The braces are a hash tag (Redis Cluster specification, "Hash tags"): all keys of a document live in one slot, so that
one script may touch them together.
"""

from __future__ import annotations

PREFIX = "ingest:"

#: Sorted set of all document ids, all with score 0; ids sort by time of creation.
INDEX = f"{PREFIX}index"

#: Put before every key that Celery keeps in the broker.
BROKER_PREFIX = f"{PREFIX}broker:"


def state(document_id: str) -> str:
    """Hash: the state, each field's value in JSON."""
    return f"{PREFIX}{{{document_id}}}"


def channel(document_id: str) -> str:
    """Pub/sub channel: each event as it happens."""
    return state(document_id)


def events(document_id: str) -> str:
    """Stream: the last events, with ids ``<seq>-0``."""
    return f"{state(document_id)}:events"


def source(document_id: str) -> str:
    """Hash: what was uploaded and with which options; not shown to viewers."""
    return f"{state(document_id)}:source"


def document_id_of(channel_name: str) -> str:
    """The inverse of `channel`. Raises `ValueError` for a name that is none."""
    if not (channel_name.startswith(f"{PREFIX}{{") and channel_name.endswith("}")):
        raise ValueError(f"not a document's channel: {channel_name!r}")
    return channel_name[len(PREFIX) + 1 : -1]
