"""Idempotency-Key: the same upload is one document and has one answer, whoever sends it again, where, and when.

Two apps over one Valkey are two nodes.
"""

from __future__ import annotations

import threading
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from ingest_web import intake, services
from ingest_web.idempotency import Claim, Claims
from shared.errors import StoreUnavailable
from shared.storage import source_path
from shared.store import Store
from tests.records import complete

PDF = b"%PDF-1.7\n" + b"x" * 5000


def send(http, key: str | None, data: bytes = PDF, name: str = "a.pdf", **fields: str):
    form = httpx.Request("POST", "http://x/", data=fields, files={"file": (name, data)})
    headers = {} if key is None else {"Idempotency-Key": key}
    return http.post("/ingestions", data=form.read(), content_type=form.headers["Content-Type"], headers=headers)


def stored(settings) -> list[str]:
    root = Path(settings.storage_url)
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def documents(http) -> list[str]:
    return [state["id"] for state in http.get("/ingestions").json["ingestions"]]


@pytest.fixture
def nodes(make_app):
    """Clients of two nodes of one installation."""
    return [make_app().test_client() for _ in range(2)]


def test_the_same_upload_with_the_same_key_is_one_document(nodes, settings):
    """Wherever it comes again it is answered as at first, and says so; nothing more is stored."""
    first, *again = [send(node, "k") for node in (*nodes, *nodes)]
    assert first.status_code == 202
    assert "Idempotent-Replayed" not in first.headers
    for answer in again:
        assert (answer.status_code, answer.json) == (first.status_code, first.json)
        assert answer.headers["Location"] == first.headers["Location"]
        assert answer.headers["Idempotent-Replayed"] == "true"
    assert documents(nodes[0]) == [first.json["id"]]
    assert stored(settings) == [source_path(first.json["id"])]


def test_uploads_at_the_same_time_are_one_document_too(make_app, settings):
    """Nobody is told to wait, and one of them is the first."""
    apps = [make_app() for _ in range(8)]
    together = threading.Barrier(len(apps))
    answers = []

    def upload(app) -> None:
        together.wait()
        answers.append(send(app.test_client(), "k"))

    threads = [threading.Thread(target=upload, args=(app,)) for app in apps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} == {202}
    [document_id] = {answer.json["id"] for answer in answers}
    assert sorted("Idempotent-Replayed" in answer.headers for answer in answers) == [False] + [True] * 7
    assert documents(apps[0].test_client()) == [document_id]
    assert stored(settings) == [source_path(document_id)]


@pytest.mark.parametrize(
    ("data", "name", "fields"),
    [
        (PDF + b"\n", "a.pdf", {}),
        (PDF, "b.pdf", {}),
        (PDF, "a.pdf", {"chunk_size": "500"}),
        (PDF, "a.pdf", {"password": "x"}),
        (PDF, "a.pdf", {"reuse": "false"}),
    ],
    ids=["other bytes", "another name", "other options", "a password", "other terms"],
)
def test_another_upload_with_the_same_key_is_refused(nodes, settings, data, name, fields):
    """A program that mixes up its keys learns of it, and nothing is stored."""
    first = send(nodes[0], "k").json["id"]
    refused = send(nodes[1], "k", data, name, **fields)
    assert (refused.status_code, refused.json["code"]) == (422, "idempotency_key_reused")
    assert documents(nodes[0]) == [first]
    assert stored(settings) == [source_path(first)]


def test_what_is_refused_leaves_nothing_also_when_the_key_stands_for_an_earlier_result(nodes, settings, store):
    """Of the upload that is refused; the earlier document stays."""
    first = send(nodes[0], None).json["id"]
    complete(store, first)
    assert send(nodes[0], "k").json["id"] == first
    refused = send(nodes[1], "k", name="b.pdf")
    assert (refused.status_code, refused.json["code"]) == (422, "idempotency_key_reused")
    assert documents(nodes[0]) == [first]
    assert stored(settings) == [source_path(first)]


@pytest.mark.parametrize("key", ["", "x" * 256, "schlüssel", "a\tb", "a\x7f"])
def test_a_key_that_is_none_is_refused(nodes, settings, key):
    """Empty, too long, or of other characters than a header can be trusted with."""
    refused = send(nodes[0], key.encode().decode("latin-1"))
    assert (refused.status_code, refused.json["code"]) == (422, "invalid_option")
    assert stored(settings) == []


def test_keys_of_another_tenant_and_other_keys_have_nothing_to_do_with_it(nodes, settings, client):
    """Each is answered for itself."""
    ids = {send(nodes[0], key).json["id"] for key in ("k", "K", None, None)}
    assert len(ids) == 4
    mine = Claims(client, settings, "acme", "k").make(Claim("f", "mine"))
    theirs = Claims(client, settings, "zenith", "k").make(Claim("f", "theirs"))
    assert (mine.document_id, theirs.document_id) == ("mine", "theirs")


def test_an_upload_that_failed_may_be_sent_again_with_its_key(nodes):
    """What was refused is nobody's answer."""
    assert send(nodes[0], "k", chunk_size="1").status_code == 422
    assert send(nodes[0], "k", chunk_size="500").status_code == 202


def crashing(monkeypatch, where: type, method: str, before: bool):
    """A node that dies when it calls a method, before it or after it: no clean-up of ours runs any more."""
    real = getattr(where, method)

    def die(self, *args):
        if not before:
            real(self, *args)
        monkeypatch.setattr(where, method, real)
        raise SystemExit

    monkeypatch.setattr(where, method, die)
    monkeypatch.setattr(Claims, "release", lambda self, mine: False)


@pytest.mark.parametrize(
    ("where", "method", "before"),
    [(Store, "create", True), (Store, "create", False), (Claims, "settle", True), (Claims, "settle", False)],
)
def test_after_a_crash_the_same_key_brings_it_to_its_end(nodes, settings, store, monkeypatch, where, method, before):
    """Wherever a node died after it claimed the key, the next upload finishes the same document."""
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        crashing(patch, where, method, before)
        send(nodes[0], "k")
    [left] = stored(settings)
    answer = send(nodes[1], "k")
    assert (answer.status_code, answer.headers["Idempotent-Replayed"]) == (202, "true")
    document_id = answer.json["id"]
    assert [left] == [source_path(document_id)] == stored(settings)
    assert store.source(document_id).path == left
    assert documents(nodes[0]) == [document_id]
    assert send(nodes[0], "k").json == answer.json


def test_who_was_counted_on_by_another_takes_nothing_back(nodes, settings, store, monkeypatch):
    """A node loses Redis while it makes the document; another makes it meanwhile, and that stays."""
    real = intake._make

    def lose_redis(document_id, source) -> None:
        monkeypatch.setattr(intake, "_make", real)
        assert send(nodes[1], "k").json["id"] == document_id
        raise StoreUnavailable("Redis can't be reached.")

    monkeypatch.setattr(intake, "_make", lose_redis)
    assert send(nodes[0], "k").status_code == 503
    [document_id] = documents(nodes[0])
    assert stored(settings) == [store.source(document_id).path]
    assert send(nodes[0], "k").json["id"] == document_id


def test_who_fails_alone_leaves_nothing(nodes, settings, client, monkeypatch):
    """Without anybody who counts on it the claim is taken back with the rest."""
    real = intake._make

    def fail(document_id, source) -> None:
        monkeypatch.setattr(intake, "_make", real)
        raise StoreUnavailable("Redis can't be reached.")

    monkeypatch.setattr(intake, "_make", fail)
    assert send(nodes[0], "k").status_code == 503
    assert (stored(settings), client.keys("ingest:idempotency:*")) == ([], [])


def test_the_answer_of_an_earlier_result_is_kept_as_well(nodes, store, client):
    """200 stays 200, also when that document is gone."""
    first = send(nodes[0], None).json["id"]
    complete(store, first)
    answer = send(nodes[0], "k")
    assert (answer.status_code, answer.json["id"], answer.json["status"]) == (200, first, "COMPLETED")
    assert "Idempotent-Replayed" not in answer.headers
    again = send(nodes[1], "k")
    assert (again.status_code, again.json, again.headers["Idempotent-Replayed"]) == (200, answer.json, "true")
    assert nodes[1].delete(f"/ingestions/{first}").status_code == 204
    again = send(nodes[1], "k")
    assert (again.status_code, again.json) == (200, answer.json)


def test_what_is_kept_of_a_key_is_no_secret_and_not_for_ever(app, client, settings):
    """Ids and digests, for the time that is set."""
    send(app.test_client(), "my-own-key", password="correct horse")
    [name] = client.keys("ingest:idempotency:*")
    kept = client.get(name)
    assert b"my-own-key" not in name + kept
    assert b"correct" not in kept
    assert b"links" not in kept
    assert 0 < client.pttl(name) <= settings.idempotency_seconds * 1000


def test_a_password_can_not_be_guessed_from_what_is_kept(make_app, client):
    """The digest needs the key of the service, which Redis never sees."""
    prints = set()
    for secret in ("one", "two"):
        app = make_app(secret_key=SecretStr(secret))
        send(app.test_client(), secret, password="1234")
        with app.app_context():
            [kept] = [Claim.decoded(client.get(name)) for name in client.keys("ingest:idempotency:*")]
            assert services.current().seal.digest("1234") not in kept.fingerprint
        prints.add(kept.fingerprint)
        client.flushall()
    assert len(prints) == 2
