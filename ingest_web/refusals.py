"""What is answered where no app answers: to what gunicorn can't read as a request, and for an error that nobody caught.

gunicorn would write a page of HTML, with a 501 for what is the sender's fault. Such an answer has no headers of CORS:
whose page has asked was not read.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping

from gunicorn.http import errors
from werkzeug.exceptions import (
    BadRequest,
    ExpectationFailed,
    HTTPException,
    NotFound,
    RequestHeaderFieldsTooLarge,
    RequestURITooLarge,
)

from ingest_web import problems
from ingest_web.envelope import SAFE
from shared.errors import IngestError

#: What any request may be answered with.
KINDS: tuple[type[HTTPException], ...] = (
    BadRequest,
    RequestURITooLarge,
    ExpectationFailed,
    RequestHeaderFieldsTooLarge,
)

#: In words of our own: gunicorn's repeat what was sent.
_NAMED: Mapping[type[Exception], HTTPException | IngestError] = {
    errors.InvalidResponseHeader: IngestError(""),  # what the app has said, and no request
    errors.InvalidResponseHeaderName: IngestError(""),
    errors.LimitRequestLine: RequestURITooLarge("The first line of the request is too long."),
    errors.LimitRequestHeaders: RequestHeaderFieldsTooLarge("There are too many headers, or one of them is too long."),
    errors.ExpectationFailed: ExpectationFailed("`Expect` may ask for 100-continue alone."),
    errors.UnsupportedTransferCoding: BadRequest("`Transfer-Encoding` may be chunked alone."),
    errors.ConfigurationProblem: NotFound(),  # a path beside the prefix that an operator has put the app under
    errors.ParseException: BadRequest("This is no request of HTTP/1.1, or can be read in more than one way."),
    ssl.SSLError: BadRequest("This is no TLS."),
}


def answer(error: BaseException) -> bytes:
    """An answer of HTTP/1.1, to its last byte. The connection has to be closed after it."""
    named = next((named for kind, named in _NAMED.items() if isinstance(error, kind)), IngestError(""))
    response = problems.answer(named)
    headers = [*response.headers, *SAFE, ("Connection", "close")]
    head = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"HTTP/1.1 {response.status}\r\n{head}\r\n".encode("latin-1") + response.get_data()
