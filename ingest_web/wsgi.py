"""The entry point for a WSGI server: ``gunicorn -c python:ingest_web.gunicorn_conf ingest_web.wsgi:app``."""

from __future__ import annotations

import os

from ingest_web.app import create_app
from shared.config import Settings

app = create_app(Settings.from_environment(os.environ))
