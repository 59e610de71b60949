"""The Flask application, from settings. It opens no connection and starts nothing before the first request."""

from __future__ import annotations

from typing import cast
from wsgiref.types import WSGIApplication

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from ingest_web import (
    access,
    health,
    ingestions,
    links,
    metrics,
    openapi,
    pages,
    problems,
    services,
    streams,
    uploads,
    webhooks,
)
from ingest_web.envelope import Envelope
from ingest_web.express import Express
from ingest_web.origins import Origins
from ingest_web.services import Services
from shared import origin
from shared.config import Settings

#: A longer body is refused, on every route but that of uploads.
MOST_BODY_BYTES = 64 * 1024


def create_app(settings: Settings) -> Flask:
    """An application with all routes."""
    app = Flask("ingest_web", static_folder="static", template_folder="templates")
    # The names of fields in answers are in the order of the documentation.
    app.json.sort_keys = False  # type: ignore[attr-defined]
    # What is read whole is small. An upload, which is not read whole, says so itself.
    app.config["MAX_CONTENT_LENGTH"] = MOST_BODY_BYTES
    # A path that is nearly right is not there; werkzeug would answer a page of HTML that leads to another.
    app.url_map.merge_slashes = False
    services.install(app, Services.from_settings(settings))
    problems.install(app)
    access.install(app)
    for module in (uploads, ingestions, links, streams, webhooks, health, metrics, pages, openapi):
        app.register_blueprint(module.blueprint)
    origins = Origins(origin.parse_list(settings.allowed_origins))
    app.wsgi_app = Express(app, origins)  # type: ignore[method-assign]
    if settings.trusted_proxies:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=settings.trusted_proxies, x_proto=0)  # type: ignore[method-assign]
    app.wsgi_app = Envelope(cast("WSGIApplication", app.wsgi_app), origins)  # type: ignore[method-assign]
    return app
