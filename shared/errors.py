"""Every error that the project raises on purpose, each with a stable code and an HTTP status.

    IngestError
    ├── SettingsError            a setting is missing, unknown or out of range
    ├── RequestError             the caller can mend it
    │   ├── FileMissing            400  file_missing
    │   ├── TooManyFiles           400  too_many_files
    │   ├── MalformedUpload        400  malformed_upload
    │   ├── UploadInterrupted      400  upload_interrupted
    │   ├── Unauthorized           401  unauthorized
    │   ├── Forbidden              403  forbidden
    │   ├── UnknownIngestion       404  unknown_ingestion
    │   ├── UnknownEndpoint        404  unknown_endpoint
    │   ├── UnknownDelivery        404  unknown_delivery
    │   ├── EndpointDisabled       409  endpoint_disabled
    │   ├── TooManyEndpoints       409  too_many_endpoints
    │   ├── TooSlow                408  too_slow
    │   ├── NotReady               409  not_ready
    │   ├── NotRetryable           409  not_retryable
    │   ├── TooLarge               413  too_large
    │   ├── UnsupportedMediaType   415  unsupported_media_type
    │   ├── EmptyFile              422  empty_file
    │   ├── InvalidOption          422  invalid_option
    │   ├── RefusedUrl             422  refused_url
    │   ├── IdempotencyKeyReused   422  idempotency_key_reused
    │   └── Exhausted              the tenant has had its share for the moment
    │       ├── RateLimited        429  rate_limited
    │       ├── QuotaOfBytes       429  quota_bytes
    │       └── TooManyDocuments   429  too_many_documents
    ├── StoreUnavailable           503  unavailable
    │   └── DatabaseUnavailable    503  unavailable
    ├── Refused                  a write that came too late; the writer stops without noise
    │   ├── StaleAttempt           409  stale_attempt
    │   ├── LostLease              409  lost_lease
    │   ├── AlreadyFinished        409  already_finished
    │   └── OutOfOrder             409  out_of_order
    └── DocumentError            the document is at fault; its ingestion ends FAILED with this code
        ├── Encrypted                   encrypted
        ├── TooManyPages                too_many_pages
        ├── TooMuchText                 too_much_text
        ├── TookTooLong                 took_too_long
        ├── Unreadable                  unreadable
        └── WorkersLost                 workers_lost

Errors of other libraries are translated where they enter, with ``raise ... from``. This module knows no framework:
`ingest_web.problems` renders the tree as ``application/problem+json``.
"""

from __future__ import annotations

from typing import Any, ClassVar


class IngestError(Exception):
    """The root. ``extra`` holds members that a problem document may carry beside the standard ones."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Something went wrong on our side"

    def __init__(self, detail: str, **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.extra = extra


class SettingsError(IngestError):
    """The service can't start with these settings; the message names the variable."""

    code = "invalid_settings"
    title = "The settings are not valid"


class RequestError(IngestError):
    """The caller can mend it."""

    code = "bad_request"
    status = 400
    title = "The request is not valid"


class FileMissing(RequestError):
    """The multipart body has no part named ``file``."""

    code = "file_missing"
    title = "No file was sent"


class TooManyFiles(RequestError):
    """One file a request."""

    code = "too_many_files"
    title = "More than one file was sent"


class MalformedUpload(RequestError):
    """The body is not the multipart body that its header announces."""

    code = "malformed_upload"
    title = "The upload could not be understood"


class UploadInterrupted(RequestError):
    """The client went away in mid-upload."""

    code = "upload_interrupted"
    title = "The upload ended early"


class Unauthorized(RequestError):
    """No key that opens anything was shown."""

    code = "unauthorized"
    status = 401
    title = "A valid API key is needed"


class Forbidden(RequestError):
    """The key is good, but not for this."""

    code = "forbidden"
    status = 403
    title = "The API key is not good for this"


class UnknownIngestion(RequestError):
    """No such document, or no longer."""

    code = "unknown_ingestion"
    status = 404
    title = "There is no such ingestion"


class UnknownEndpoint(RequestError):
    """No such webhook endpoint of this tenant."""

    code = "unknown_endpoint"
    status = 404
    title = "There is no such webhook endpoint"


class UnknownDelivery(RequestError):
    """No such delivery to this endpoint, or no longer."""

    code = "unknown_delivery"
    status = 404
    title = "There is no such delivery"


class EndpointDisabled(RequestError):
    """Nothing is sent to an endpoint that is disabled."""

    code = "endpoint_disabled"
    status = 409
    title = "The webhook endpoint is disabled"


class TooManyEndpoints(RequestError):
    """A tenant has as many endpoints as it may."""

    code = "too_many_endpoints"
    status = 409
    title = "There are too many webhook endpoints"


class TooSlow(RequestError):
    """The body comes more slowly than ``INGEST_UPLOAD_STALL_SECONDS`` allows."""

    code = "too_slow"
    status = 408
    title = "The request took too long to come"


class NotReady(RequestError):
    """The result was asked for before there is one."""

    code = "not_ready"
    status = 409
    title = "The result is not ready"


class NotRetryable(RequestError):
    """Only what FAILED or was CANCELLED can be tried again."""

    code = "not_retryable"
    status = 409
    title = "The ingestion can't be tried again"


class TooLarge(RequestError):
    """More bytes than ``INGEST_MAX_UPLOAD_BYTES``."""

    code = "too_large"
    status = 413
    title = "The file is too large"


class UnsupportedMediaType(RequestError):
    """The content (not the name) is of a type that no stage can read."""

    code = "unsupported_media_type"
    status = 415
    title = "This type of file can't be ingested"


class EmptyFile(RequestError):
    """Zero bytes."""

    code = "empty_file"
    status = 422
    title = "The file is empty"


class RefusedUrl(RequestError):
    """A webhook's URL leads to an address that the service doesn't call."""

    code = "refused_url"
    status = 422
    title = "The URL can't be called"


class InvalidOption(RequestError):
    """A field of a form, of a query or of a JSON body is unknown or out of range."""

    code = "invalid_option"
    status = 422
    title = "An option is not valid"


class IdempotencyKeyReused(RequestError):
    """The key came before, with another file or other options."""

    code = "idempotency_key_reused"
    status = 422
    title = "The Idempotency-Key belongs to another upload"


class Exhausted(RequestError):
    """The tenant (or the address) has had its share; the same request may succeed in ``retry_after_seconds``.

    ``policy`` is the bound in the words of the header ``RateLimit-Policy``, empty for what is not counted by time.
    """

    code = "rate_limited"
    status = 429
    title = "Too many requests"

    def __init__(self, detail: str, retry_after_seconds: int, policy: str = "") -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds
        self.policy = policy


class RateLimited(Exhausted):
    """More requests than ``INGEST_LIMIT_REQUESTS_PER_MINUTE``, or more of another kind in a time."""


class QuotaOfBytes(Exhausted):
    """More bytes than ``INGEST_LIMIT_BYTES_PER_HOUR``."""

    code = "quota_bytes"
    title = "Too many bytes"


class TooManyDocuments(Exhausted):
    """More documents on their way than ``INGEST_LIMIT_DOCUMENTS``."""

    code = "too_many_documents"
    title = "Too many documents are on their way"


class StoreUnavailable(IngestError):
    """Redis or the broker can't be reached, or has no room; the same request may succeed in ``retry_after_seconds``."""

    code = "unavailable"
    status = 503
    title = "The service is not available for the moment"
    retry_after_seconds: ClassVar[int] = 5


class DatabaseUnavailable(StoreUnavailable):
    """The SQL database can't be reached; nothing is said of Redis."""


class Refused(IngestError):
    """A write that came too late. Whoever gets it has been overtaken and stops without noise."""

    code = "refused"
    status = 409
    title = "The document has moved on"


class StaleAttempt(Refused):
    """The writer belongs to an earlier attempt."""

    code = "stale_attempt"


class LostLease(Refused):
    """The part has been given to another: its lease had ended."""

    code = "lost_lease"


class AlreadyFinished(Refused):
    """Nothing is ever written after a final state."""

    code = "already_finished"


class OutOfOrder(Refused):
    """The table of transitions has no way from the present state to the one reported."""

    code = "out_of_order"


class DocumentError(IngestError):
    """The document is at fault. Its ingestion ends FAILED, with this code and message in ``error``."""

    code = "document"
    status = 422
    title = "The document can't be ingested"


class Encrypted(DocumentError):
    """A password is needed to open it."""

    code = "encrypted"


class TooManyPages(DocumentError):
    """More pages than ``INGEST_MAX_PAGES``."""

    code = "too_many_pages"


class TooMuchText(DocumentError):
    """More characters than ``INGEST_MAX_DOCUMENT_CHARACTERS``."""

    code = "too_much_text"


class TookTooLong(DocumentError):
    """More work than ``INGEST_DOCUMENT_SECONDS``."""

    code = "took_too_long"


class Unreadable(DocumentError):
    """Too damaged: not one page could be recovered."""

    code = "unreadable"


class WorkersLost(DocumentError):
    """Worker after worker was lost with a step that can't be done in pieces."""

    code = "workers_lost"
