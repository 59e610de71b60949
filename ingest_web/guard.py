"""Keys at the door of a web process: who shows one, and what it is good for. It knows no framework."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from functools import cached_property

from ingest_web.tokens import Token, Tokens
from shared import keyring
from shared.access import ANYBODY, Caller, Scope
from shared.config import Settings
from shared.errors import Forbidden, Unauthorized
from shared.keyring import ApiKey, KeyRing
from shared.sealing import secret_of
from shared.store import Store

#: A key is looked up again after so long: a revoked one is refused everywhere within this time.
FRESH_SECONDS = 1.0

#: In that time, so many ids that are not known here are looked up; for more, all ids there are are read once.
MOST_LOOKUPS = 20

#: So many keys are remembered.
MOST_REMEMBERED = 10_000

_SCHEME = "bearer "


class Guard:
    """Knows who shows which key. Where none is asked for, everybody is `ANYBODY`."""

    def __init__(self, settings: Settings, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self.is_open = settings.auth != "keys"
        self._settings = settings
        self._store = store
        self._clock = clock
        self._remembered: dict[str, tuple[float, ApiKey | None]] = {}
        #: Since when lookups are counted, how many there were, and all ids, once they were too many.
        self._counted_since = 0.0
        self._lookups = 0
        self._all_ids: frozenset[str] | None = None

    def caller(self, authorization: str | None) -> Caller:
        """Who sends this ``Authorization`` header (RFC 6750). Raises `Unauthorized`, `StoreUnavailable`."""
        if self.is_open:
            return ANYBODY
        if not authorization:
            raise Unauthorized("Send an API key, as in: Authorization: Bearer ingest_...")
        shown = keyring.parts_of(authorization[len(_SCHEME) :].strip())
        if shown is None or authorization[: len(_SCHEME)].lower() != _SCHEME:
            raise Unauthorized("The Authorization header holds no API key.")
        key = self.key(shown[0])
        if key is None or not key.opens_for(shown[1]):
            raise Unauthorized("The API key is not one, or is revoked.")
        return key.caller

    def holder(self, token: str) -> tuple[Token, Caller]:
        """What a token says, and who made it. Raises `Unauthorized`, `StoreUnavailable`."""
        read = self.tokens.read(token, time.time())
        if self.is_open:
            return read, ANYBODY
        key = self.key(read.key_id)
        if key is None or key.revoked_at is not None:
            raise Unauthorized("The token was made by a key that is revoked.")
        return read, key.caller

    def revoked(self, key_ids: Collection[str]) -> frozenset[str]:
        """Those of these keys that open nothing any more, asked now. Raises `StoreUnavailable`."""
        revoked = frozenset(key_ids) - self._ring.live(key_ids)
        for key_id in revoked:
            self._remembered.pop(key_id, None)
        return revoked

    def key(self, key_id: str) -> ApiKey | None:
        """A key as it was at most `FRESH_SECONDS` ago. Raises `StoreUnavailable`."""
        until, key = self._remembered.get(key_id, (0.0, None))
        if self._clock() >= until:
            if key is None and not self._may_exist(key_id):
                return None
            key = self._ring.find(key_id)
            if len(self._remembered) >= MOST_REMEMBERED:
                self._remembered.clear()
            self._remembered[key_id] = (self._clock() + FRESH_SECONDS, key)
        return key

    def _may_exist(self, key_id: str) -> bool:
        # Strangers make up ids by the thousand, and the database is not to be asked for each. By address nothing is
        # counted: behind a balancer that may be everybody's.
        if self._clock() >= self._counted_since + FRESH_SECONDS:
            self._counted_since, self._lookups, self._all_ids = self._clock(), 0, None
        self._lookups += 1
        if self._lookups <= MOST_LOOKUPS:
            return True
        if self._all_ids is None:
            self._all_ids = self._ring.ids()
        return key_id in self._all_ids

    def check_owned(self, document_ids: Sequence[str], caller: Caller) -> None:
        """Return when all these are documents of the caller's tenant. Raises `UnknownIngestion`."""
        if not self.is_open:
            self._store.check_tenant(document_ids, caller.tenant)

    @cached_property
    def tokens(self) -> Tokens:
        """Writes and reads the tokens of streams."""
        return Tokens(secret_of(self._settings))

    @cached_property
    def _ring(self) -> KeyRing:
        return KeyRing.from_settings(self._settings)

    def close(self) -> None:
        """Let go of every connection."""
        if "_ring" in self.__dict__:
            self._ring.close()


def demand(caller: Caller, scope: Scope) -> None:
    """Return when the caller may do what this scope is for. Raises `Forbidden`."""
    if scope not in caller.scopes:
        raise Forbidden(f"The API key is not good for this: it needs the scope {scope}.")
