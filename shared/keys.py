"""The names of everything in Redis. No key literal stands anywhere else.

The braces are a hash tag (Redis Cluster specification, "Hash tags"): all keys of a document live in one slot, so that
one script may touch them together.
"""

from __future__ import annotations

PREFIX = "ingest:"

#: Sorted sets that lead to the documents; the truth is in the documents' own keys, and the sweeper mends these.
#: Not final yet; score: since when, in ms.
ACTIVE = f"{PREFIX}active"
#: PENDING; score: since when, in ms.
QUEUED = f"{PREFIX}queued"
#: Some part can be claimed; score: the document's turn.
READY = f"{PREFIX}ready"
#: The clock of the turns shows the score of its one member, `CLOCK_HAND`: the largest turn at which a part was claimed.
CLOCK = f"{PREFIX}clock"
CLOCK_HAND = "turn"
#: Some part is in hand; score: when one was last claimed, in ms.
LEASED = f"{PREFIX}leased"
#: All that lead to documents which are not final.
LEADING = (ACTIVE, QUEUED, READY, LEASED)
#: Final; score: since when, in ms. Also what is gone, until nothing is stored of it.
FINISHED = f"{PREFIX}finished"

#: Something is in their outboxes, perhaps; score: since when, in ms.
OUTBOX = f"{PREFIX}outbox"

#: Pub/sub channel: a courier should look again, at the outboxes and at what is due.
COURIER = f"{PREFIX}courier"
#: Whoever holds this string takes over what is in the outboxes.
COLLECTING = f"{PREFIX}collecting"

#: Hash: how many attempts at deliveries there were, by what came of them.
ATTEMPTS = f"{PREFIX}attempts"

#: Counter: bytes of documents that have been parsed, from which the rate follows.
SERVED = f"{PREFIX}served"

#: Whoever holds this string sweeps.
SWEEPING = f"{PREFIX}sweeping"

#: Put before every counter of the limits: strings that expire with their time.
LIMITS = f"{PREFIX}limit"

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


def waiting(document_id: str) -> str:
    """Sorted set: the parts that anyone may claim."""
    return f"{state(document_id)}:waiting"


def running(document_id: str) -> str:
    """Sorted set: the parts in hand; score: when the lease ends, in ms."""
    return f"{state(document_id)}:running"


def work(document_id: str) -> str:
    """Hash: fencing tokens, losses, and how far the pages are; after the end, when the result was last reused."""
    return f"{state(document_id)}:work"


def done(document_id: str) -> str:
    """Hash: the ranges of pages that are parsed, and the plan, each with what was found there in JSON."""
    return f"{state(document_id)}:done"


def outbox(document_id: str) -> str:
    """Hash: changes of status that webhooks are to hear of, by their seq, until a courier has taken them over."""
    return f"{state(document_id)}:outbox"


def of_document(document_id: str) -> list[str]:
    """All keys of a document, in the order in which the scripts take them."""
    return [*removable(document_id), outbox(document_id)]


def removable(document_id: str) -> list[str]:
    """The keys that go when the document goes. What is in its outbox is still to be told."""
    return [key(document_id) for key in (state, events, source, waiting, running, work, done)]


def index(tenant: str) -> str:
    """Sorted set: all documents of a tenant, all with score 0; ids sort by time of creation."""
    return f"{PREFIX}index:{tenant}"


def result(fingerprint: str) -> str:
    """String: the id of a COMPLETED document of the same tenant with these bytes and options."""
    return f"{PREFIX}result:{fingerprint}"


def active(tenant: str) -> str:
    """Sorted set: the documents of a tenant that are not final; score: since when, in ms."""
    return f"{ACTIVE}:{tenant}"


def streams(tenant: str) -> str:
    """Hash: web process -> how many streams of a tenant it holds, and until when that is so."""
    return f"{PREFIX}streams:{tenant}"


def link_streams(tenant: str) -> str:
    """Hash: the same of those of its streams that links have opened."""
    return f"{PREFIX}link-streams:{tenant}"


def idempotency(digest: str) -> str:
    """String: what became of the upload with an Idempotency-Key; ``digest`` is of the tenant and the key."""
    return f"{PREFIX}idempotency:{digest}"
