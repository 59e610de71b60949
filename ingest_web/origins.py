"""What a page of another origin is told of the answers it may read: CORS, as in the Fetch standard (section 3.3). Pure.

Only the origins of the allow-list are told anything, each its own name and never ``*``. No credentials are allowed:
the service knows no cookies.
"""

from __future__ import annotations

from collections.abc import Iterable

Headers = tuple[tuple[str, str], ...]

#: Of the headers that the Fetch standard hides from scripts, those that a client of ours needs.
EXPOSED_HEADERS = ("Location", "Retry-After", "RateLimit", "RateLimit-Policy", "Idempotent-Replayed", "Ingest-Partial")

METHODS = ("GET", "HEAD", "POST", "PATCH", "DELETE")

#: What a script may send that is more than a form could.
REQUEST_HEADERS = ("Content-Type", "Last-Event-ID", "Idempotency-Key", "Authorization")

#: For so long a browser need not ask again. Chromium keeps it no longer.
PREFLIGHT_SECONDS = 7200

#: The same address answers one origin and the next differently, so no cache may mix them up.
VARIES: Headers = (("Vary", "Origin"),)

_READABLE: Headers = (("Access-Control-Expose-Headers", ", ".join(EXPOSED_HEADERS)),)

_PERMITTED: Headers = (
    ("Access-Control-Allow-Methods", ", ".join(METHODS)),
    ("Access-Control-Allow-Headers", ", ".join(REQUEST_HEADERS)),
    ("Access-Control-Max-Age", str(PREFLIGHT_SECONDS)),
)


class Origins:
    """The origins whose pages may read the answers."""

    def __init__(self, allowed: Iterable[str]) -> None:
        self._answers = {origin: (*VARIES, ("Access-Control-Allow-Origin", origin)) for origin in allowed}
        self._to_others = VARIES if self._answers else ()

    def of_answer(self, origin: str | None) -> Headers:
        """The headers that an answer to ``origin`` has besides its own; None for a request that names none."""
        known = self._answers.get(origin or "")
        return self._to_others if known is None else known + _READABLE

    def of_preflight(self, origin: str | None) -> Headers | None:
        """The headers of the answer to a preflight request of ``origin``; None when it is not one to be answered."""
        known = self._answers.get(origin or "")
        return None if known is None else known + _PERMITTED
