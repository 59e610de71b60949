"""The page at ``/``."""

from __future__ import annotations

from flask import Blueprint, Response, make_response, render_template

from ingest_web import services

blueprint = Blueprint("pages", __name__)

#: Everything is a file of the page's own origin, and nothing else may run, load or frame it: a name or a message that
#: became markup after all could do nothing. Forms are sent by script.
CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)


@blueprint.get("/")
def index() -> Response:
    """Drop files, watch them."""
    settings = services.current().settings
    page = render_template("index.html", max_upload_bytes=settings.max_upload_bytes, auth=settings.auth)
    response = make_response(page)
    response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    return response
