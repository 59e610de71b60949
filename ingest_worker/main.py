"""The entry point: ``celery -A ingest_worker.main worker``. The one place here that reads the environment."""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Mapping

from celery import Celery, signals

from ingest_worker import sweeper, tasks
from ingest_worker.child import OBJECTS_BETWEEN_COLLECTIONS
from ingest_worker.drain import Drain
from ingest_worker.workbench import Workbench
from shared import logs
from shared.broker import make_celery
from shared.config import Settings
from shared.errors import SettingsError


def make_app(environment: Mapping[str, str]) -> Celery:
    """The Celery application of a worker. Opens no connection. Raises `SettingsError`."""
    settings = Settings.from_environment(environment)
    app = make_celery(settings)
    tasks.register(app, Workbench(settings), Drain())
    app.steps["worker"].add(sweeper.step(app, settings))
    # Celery leaves logging alone when someone answers this signal.
    signals.setup_logging.connect(lambda **_: _log(settings), weak=False)
    signals.worker_process_init.connect(lambda **_: _settle_in(), weak=False)
    return app


def _settle_in() -> None:
    """In each child of the pool: what it was born with is not looked at again for what could be let go of."""
    gc.freeze()
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)


def _log(settings: Settings) -> None:
    logs.configure(settings)
    # Celery's lines about every message, and pdfminer's about every oddity in a file: ours say more, in fewer words.
    for chatty in ("celery.app.trace", "celery.bootsteps", "celery.pool", "celery.worker.strategy"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.getLogger("pdfminer").setLevel(logging.ERROR)


try:
    app = make_app(os.environ)
except SettingsError as error:
    sys.exit(f"The worker can't start: {error}")
