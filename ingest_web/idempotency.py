"""What an ``Idempotency-Key`` has come to, for all web nodes: the same upload gets the same answer, however often and
wherever it comes, also at the same time (draft-ietf-httpapi-idempotency-key-header).

Each upload is stored first and claims its key then, so nobody waits for anybody. Whoever comes first gives the document
its id. Others that find the claim without an end, since its maker is about it or has died, make the same document
themselves, which happens once whoever does it: they only let the maker know, who must take nothing back from then on.
What is kept is ids and digests: no answer, since that holds links which open something.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import cast

import redis

from shared import keys, scripts
from shared.config import Settings
from shared.connections import translated
from shared.errors import InvalidOption

HEADER = "Idempotency-Key"
REPLAYED_HEADER = "Idempotent-Replayed"

MOST_CHARACTERS = 255


@dataclass(frozen=True, slots=True)
class Claim:
    """A key belongs to an upload.

    ``fingerprint`` tells uploads apart; ``document_id`` is what became of this one, or will. ``status`` and ``code``
    are those of the answer, empty before there is one. ``shared``: others may have made the document, too.
    ``told``: the webhook endpoint that the upload names has been told of the earlier document that is the answer.
    """

    fingerprint: str
    document_id: str
    status: str = ""
    code: int = 0
    shared: bool = False
    told: bool = False

    @property
    def is_settled(self) -> bool:
        """Whether there is an answer."""
        return self.code > 0

    def encoded(self) -> bytes:
        """As it stands in Redis."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decoded(cls, stored: bytes) -> Claim:
        """The inverse of `encoded`."""
        return cls(**json.loads(stored))


class Claims:
    """The claims of one tenant's key. Every method raises `StoreUnavailable` when Redis can't be reached."""

    def __init__(self, client: redis.Redis, settings: Settings, tenant: str, key: str) -> None:
        self._redis = client
        self._ttl_ms = settings.idempotency_seconds * 1000
        self._key = keys.idempotency(digest(tenant, key))
        self._swap = client.register_script(scripts.load(scripts.SWAP))

    def stand(self) -> bool:
        """Whether an upload came with the key before."""
        with translated():
            return bool(self._redis.exists(self._key))

    def make(self, mine: Claim) -> Claim:
        """Claim the key. Gives the claim that stands: this one, or the one that came before."""
        with translated():
            standing = self._redis.set(self._key, mine.encoded(), nx=True, get=True, px=self._ttl_ms)
        return mine if standing is None else Claim.decoded(cast("bytes", standing))

    def share(self, seen: Claim) -> bool:
        """Let the maker of a claim take nothing back; whether the claim still stood as it was seen."""
        return seen.shared or self._swapped(seen, replace(seen, shared=True)) == replace(seen, shared=True)

    def release(self, mine: Claim) -> bool:
        """Take a claim back, unless it is shared; whether its document is nobody else's business now."""
        standing = self._swapped(mine, None)
        return standing is None or standing.document_id != mine.document_id

    def settle(self, claim: Claim) -> None:
        """There is an answer. Whoever made the document says the same."""
        with translated():
            self._redis.set(self._key, claim.encoded(), px=self._ttl_ms)

    def note_told(self, seen: Claim) -> None:
        """The endpoint has been told: nobody need do it again."""
        self._swapped(seen, replace(seen, told=True))

    def _swapped(self, seen: Claim, then: Claim | None) -> Claim | None:
        args = [seen.encoded(), then.encoded() if then else "", self._ttl_ms]
        with translated():
            standing = self._swap(keys=[self._key], args=args)
        return Claim.decoded(standing) if standing else None


def digest(tenant: str, key: str) -> str:
    """What is kept of a tenant's key."""
    return hashlib.sha256(f"{tenant}\n{key}".encode()).hexdigest()


def checked(key: str | None) -> str | None:
    """The key of a request; None when it has none. Raises `InvalidOption`."""
    if key is None:
        return None
    if not 1 <= len(key) <= MOST_CHARACTERS or not (key.isascii() and key.isprintable()):
        raise InvalidOption(f"{HEADER}: give 1 to {MOST_CHARACTERS} printable ASCII characters", option=HEADER)
    return key
