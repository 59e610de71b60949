"""The page at ``/``."""

from __future__ import annotations

from flask import Blueprint, render_template

from ingest_web import services

blueprint = Blueprint("pages", __name__)


@blueprint.get("/")
def index() -> str:
    """Drop files, watch them."""
    settings = services.current().settings
    return render_template(
        "index.html", max_upload_bytes=settings.max_upload_bytes, heartbeat_seconds=settings.heartbeat_seconds
    )
