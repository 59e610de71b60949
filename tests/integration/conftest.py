"""The web app without gunicorn: Flask's own client, so streams are served by the generator."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from flask import Flask
from flask.testing import FlaskClient

from ingest_web import services
from ingest_web.app import create_app
from shared.keyring import KeyRing
from tests.receiver import Receiver

MakeApp = Callable[..., Flask]


@pytest.fixture
def make_app(settings, client) -> Iterator[MakeApp]:
    """Makes apps over an empty Valkey, with some settings changed."""
    apps: list[Flask] = []

    def make(**changes: object) -> Flask:
        apps.append(create_app(settings.model_copy(update=changes)))
        return apps[-1]

    yield make
    for app in apps:
        services.of(app).close()


@pytest.fixture
def app(make_app) -> Flask:
    """An app over an empty Valkey."""
    return make_app()


@pytest.fixture
def http(app) -> FlaskClient:
    """A client of the app."""
    return app.test_client()


@pytest.fixture
def ring(settings) -> Iterator[KeyRing]:
    """The keys of an installation of one's own."""
    with closing(KeyRing.from_settings(settings)) as ring:
        yield ring


@pytest.fixture(scope="module")
def receiver(tmp_path_factory) -> Iterator[Receiver]:
    """A process that receives webhooks."""
    with Receiver(tmp_path_factory.mktemp("receiver")) as receiver:
        yield receiver


@pytest.fixture(autouse=True)
def _quiet() -> None:
    logging.getLogger("ingest_web").setLevel(logging.CRITICAL)
