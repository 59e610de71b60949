"""From stored bytes to a document: made once, or found. Whatever goes wrong, nothing is left of it, unless another
request with the same Idempotency-Key may count on it.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass, replace
from http import HTTPStatus

from ingest_web import dispatch, services
from ingest_web.idempotency import Claim, Claims
from shared.errors import IdempotencyKeyReused, StoreUnavailable, UnknownIngestion
from shared.jobs import Status
from shared.options import Terms
from shared.source import Source
from shared.storage import source_path


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an upload is answered with; ``replayed``: as the first one with its key was, whose ``claim`` stands."""

    document_id: str
    status: Status
    code: HTTPStatus
    replayed: bool = False
    claim: Claim | None = None

    @property
    def is_reused(self) -> bool:
        """Whether the document is an earlier one."""
        return self.code is HTTPStatus.OK

    @property
    def is_told(self) -> bool:
        """Whether the endpoint that the upload names hears of the document by itself, or has been told of it."""
        return not self.is_reused or (self.claim is not None and self.claim.told)


def bring_in(document_id: str, source: Source, terms: Terms, key: str | None) -> Outcome:
    """Make a document of what is stored, or find one that has the same result; once for all uploads with the key.

    Raises `TooManyDocuments`, `IdempotencyKeyReused`.
    """
    if key is not None:
        return _bring_in_once(document_id, source, terms, services.current().claims(source.tenant, key))
    try:
        found = _found(source, terms)
        if found is None:
            _make(document_id, source)
    except BaseException:
        _undo(document_id)
        raise
    return found or _made(document_id)


def _bring_in_once(document_id: str, source: Source, terms: Terms, claims: Claims) -> Outcome:
    mine = Claim(fingerprint_of(source, terms), document_id)
    try:
        found = _found(source, terms)
        if found is not None:
            mine = replace(mine, document_id=found.document_id, status=found.status, code=found.code)
        return _under(claims, mine, source)
    except BaseException:
        # A claim on an earlier document says nothing of what this upload has stored: nobody counts on that.
        if mine.document_id != document_id or claims.release(mine):
            _undo(document_id)
        raise


def fingerprint_of(source: Source, terms: Terms) -> str:
    """The same for the same bytes, under the same name, with the same options and terms."""
    password = terms.password.get_secret_value()
    told = terms.model_dump_json(exclude={"password"})
    sealed = services.current().seal.digest(password) if password else ""
    whole = "\n".join([source.sha256, source.filename, source.options.model_dump_json(), told, sealed])
    return hashlib.sha256(whole.encode()).hexdigest()


def _under(claims: Claims, mine: Claim, source: Source) -> Outcome:
    while True:
        standing = claims.make(mine)
        if standing.fingerprint != mine.fingerprint:
            raise IdempotencyKeyReused("It came before, with another file or other options.")
        if standing.is_settled:
            status, code = Status(standing.status), HTTPStatus(standing.code)
            # Two claims on the same earlier document are equal: only the one that was just made is the first.
            return Outcome(standing.document_id, status, code, standing is not mine, standing)
        # Its maker is about it, or has died: the document is made here as well, unless the claim was just taken back.
        if standing == mine or claims.share(standing):
            break
    if standing == mine or not _exists(standing.document_id):
        _make(standing.document_id, replace(source, path=source_path(standing.document_id)))
    made = _made(standing.document_id)
    claims.settle(replace(standing, status=made.status, code=made.code))
    return replace(made, replayed=standing != mine)


def _found(source: Source, terms: Terms) -> Outcome | None:
    # The result of a file with a password is given to nobody else: who has the bytes may not have the password.
    if not terms.reuse or source.sealed_password:
        return None
    earlier = services.current().store.earlier_result(source)
    return None if earlier is None else Outcome(earlier.id, earlier.status, HTTPStatus.OK)


def _made(document_id: str) -> Outcome:
    return Outcome(document_id, Status.PENDING, HTTPStatus.ACCEPTED)


def _make(document_id: str, source: Source) -> None:
    services.current().store.create(document_id, source)
    dispatch.call_worker()


def _exists(document_id: str) -> bool:
    try:
        services.current().store.state(document_id)
    except UnknownIngestion:
        return False
    return True


def _undo(document_id: str) -> None:
    current = services.current()
    with suppress(StoreUnavailable):  # Redis may have got it all the same, and only its answer was lost
        current.store.delete(document_id)
    current.storage.remove(document_id)
