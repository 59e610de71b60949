"""The entry point for a WSGI server: ``gunicorn -c python:ingest_web.gunicorn_conf ingest_web.wsgi:app``."""

from __future__ import annotations

import os

from ingest_web.app import create_app
from shared import binding
from shared.config import Settings

_settings = Settings.from_environment(os.environ)
binding.refuse_if_nobody_looks(_settings)

app = create_app(_settings)
