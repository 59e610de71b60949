"""Whatever breaks, no answer shows anything of the inside, and nothing that is kept or logged shows a secret."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import re

import httpx
import pytest

from ingest_web import services
from shared import keys, task_names
from shared.access import ALL_SCOPES
from shared.broker import hint, make_celery, send
from shared.config import Settings
from shared.keyring import KeyRing, parts_of
from shared.storage import Storage

PDF = b"%PDF-1.7\n" + b"x" * 5000

PASSWORD = "correct-horse-battery"
SECRET_KEY = "the-key-of-the-service"

#: What only the inside knows: traces, files, queries, classes, the addresses and passwords of other services.
INSIDE = re.compile(
    r'Traceback|File "|\.py\b|site-packages|/work|/tmp|/usr|SELECT |INSERT |sqlite|sqlalchemy|redis\.|Error\b'
    r"|0x[0-9a-f]{6}|hunter2|nowhere\.invalid"
)


@pytest.fixture
def key(settings) -> str:
    ring = KeyRing.from_settings(settings)
    text = ring.create("default", ALL_SCOPES)[1]
    ring.close()
    return text


def bug(*_args, **_named):
    raise RuntimeError(f"a bug at /usr/lib/x.py, SELECT * FROM api_keys, password {PASSWORD}")


def lost(*_args, **_named):
    raise OSError(f"[Errno 5] Input/output error: '/tmp/{PASSWORD}'")


def break_storage(monkeypatch) -> None:
    for method in ("writing", "remove", "reading"):
        if hasattr(Storage, method):
            monkeypatch.setattr(Storage, method, lost)


def break_code(monkeypatch) -> None:
    for of in (services.Store, services.Worklist):
        for method in ("create", "ping", "state", "state_json", "newest", "overview"):
            if hasattr(of, method):
                monkeypatch.setattr(of, method, bug)


#: Each way in which a node can be broken: settings of it, and what of its code fails.
BROKEN = {
    "redis": ({"redis_url": "redis://user:hunter2@127.0.0.1:1/0"}, None),
    "database": ({"database_url": "postgresql+psycopg://user:hunter2@nowhere.invalid/chunks"}, None),
    "storage": ({}, break_storage),
    "code": ({}, break_code),
}


def ask(http, path: str, method: str, key: str | None):
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    if path == "/ingestions" and method == "POST":
        form = httpx.Request("POST", "http://x/", data={"password": PASSWORD}, files={"file": ("a.pdf", PDF)})
        headers["Idempotency-Key"] = "k"
        return http.post(path, data=form.read(), content_type=form.headers["Content-Type"], headers=headers)
    if method in {"POST", "PATCH"}:
        return http.open(path, method=method, headers=headers, data={"password": PASSWORD})
    return http.open(path, method=method, headers=headers)


@pytest.mark.parametrize("what", BROKEN)
@pytest.mark.parametrize("auth", ["keys", "off"])
def test_whatever_breaks_no_answer_shows_the_inside_and_no_log_a_secret(
    make_app, settings, key, monkeypatch, caplog, what, auth
):
    """Every route, with a key, a wrong key and none: a problem document or what was asked for, and no more."""
    caplog.set_level("DEBUG")
    logging.getLogger("ingest_web").setLevel(logging.DEBUG)
    changes, breaks = BROKEN[what]
    app = make_app(auth=auth, secret_key=SECRET_KEY_SETTING, **changes)
    http = app.test_client()
    if breaks:
        breaks(monkeypatch)
    document, secret = "0" * 26, parts_of(key)[1]
    wrong = key[:-4] + "xxxx"
    failed = 0
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<(?:\w+:)?\w+>", document, rule.rule)
        for method in rule.methods - {"HEAD", "OPTIONS"}:
            for shown in (key, wrong, None):
                answer = ask(http, path, method, shown)
                failed += answer.status_code >= 500
                if rule.endpoint not in {"pages.index", "static", "openapi.document", "metrics.metrics"}:
                    said = f"{answer.headers}{answer.text}"
                    assert not INSIDE.search(said), f"{method} {path}: {said}"
                for known in (secret, wrong[-20:], PASSWORD, SECRET_KEY):
                    assert known not in answer.text
                answer.close()
    assert failed
    told = "\n".join(_without_our_own_bug(record) for record in caplog.records)
    for known in (secret, wrong[-20:], SECRET_KEY, "hunter2"):
        assert known not in told, known


SECRET_KEY_SETTING = Settings(secret_key=SECRET_KEY).secret_key


def _without_our_own_bug(record: logging.LogRecord) -> str:
    trace = logging.Formatter().formatException(record.exc_info) if record.exc_info else ""
    return f"{record.getMessage()} {trace}"


def test_tasks_have_no_arguments_whatever_is_asked_of_workers(settings, client):
    """The broker may be another's: its messages name a task, and nothing else of anybody."""
    celery = make_celery(settings)
    with contextlib.closing(celery):
        hint(celery)
        send(celery, task_names.EXPIRE)
    messages = [json.loads(text) for text in client.lrange(keys.BROKER_PREFIX + task_names.QUEUE, 0, -1)]
    assert len(messages) == 2
    for message in messages:
        arguments, named, _ = json.loads(base64.b64decode(message["body"]))
        assert (arguments, named) == ([], {})
        assert message["headers"]["argsrepr"] in {"()", "[]"}


def test_the_settings_do_not_show_their_secrets_when_they_are_printed(settings):
    """An error text or a log line with all settings in it gives away no key."""
    assert SECRET_KEY not in repr(settings.model_copy(update={"secret_key": SECRET_KEY_SETTING}))
