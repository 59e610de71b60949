"""Attempts at deliveries over real sockets, to a receiver that does what hostile ones do."""

from __future__ import annotations

import asyncio
import math
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from standardwebhooks import Webhook

from ingest_worker import egress as egress_module
from ingest_worker.egress import Egress, Unresolved
from ingest_worker.sender import ANSWER_BYTES, ANSWER_SECONDS, LeaseOver, Sender, Sent
from shared import addresses, signing
from shared.sealing import Seal
from shared.signing import SealedSecret
from tests.receiver import FLOOD_BYTES
from tests.unit.test_verdicts import CLAIM, ENDPOINT

SECONDS = 1.0

SECRET = signing.new_secret()

LOOPBACK = addresses.networks("127.0.0.0/8")


class Answers:
    """A resolver that answers differently each time, and the last answer ever after."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, _port: int) -> Sequence[str]:
        self.asked.append(host)
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


@pytest.fixture
def send(settings) -> Callable[..., list[Sent]]:
    """Makes attempts, one after the other, to a URL."""
    seal = Seal(settings)
    secrets = (SealedSecret(seal.close(SECRET)),)

    async def attempts(url: str, count: int, allowed, resolve, until: float) -> list[Sent]:
        sender = Sender(Egress(allowed, resolve), seal, SECONDS)
        claim = replace(CLAIM, endpoint=replace(ENDPOINT, url=url, secrets=secrets), body='{"a":"ä"}', until=until)
        try:
            return [await sender.send(claim) for _ in range(count)]
        finally:
            await sender.close()

    def make(url: str, count: int = 1, allowed=LOOPBACK, resolve=None, until=math.inf) -> list[Sent]:
        return asyncio.run(attempts(url, count, allowed, resolve, until))

    return make


def test_a_delivery_arrives_as_the_specification_says(send, receiver):
    """Its id is the same each time, its time is that of the attempt, its signature is one of both."""
    receiver.tell_secrets({"/ok/one": SECRET})
    sent = send(receiver.url("ok", "one"), count=2)
    assert [(one.attempt.status, one.attempt.error, one.attempt.answer) for one in sent] == [(200, None, "thanks")] * 2
    first, second = receiver.at("/ok/one")
    for one in (first, second):
        assert one["verified"] is True
        assert one["body"] == '{"a":"ä"}'
        assert one["headers"]["content-type"] == "application/json"
        assert one["headers"]["webhook-id"] == "msg_d_1_completed"
        assert abs(int(one["headers"]["webhook-timestamp"]) - one["at"]) < 2
        assert one["headers"]["host"] == receiver.base.removeprefix("http://")


def test_what_is_kept_of_a_request_is_not_its_signature(send, receiver):
    """Nor the secret: whoever reads the list of deliveries can't sign anything."""
    (sent,) = send(receiver.url("ok", "kept"))
    assert sent.attempt.headers.keys() >= {"webhook-id", "webhook-timestamp", "content-type"}
    assert "webhook-signature" not in sent.attempt.headers
    assert SECRET not in str(sent)


def test_a_redirect_is_a_failure_and_is_not_followed(send, receiver):
    """Wherever it leads."""
    (sent,) = send(receiver.url("redirect"))
    assert (sent.attempt.status, sent.attempt.error) == (307, "redirected")
    assert receiver.at("/ok/redirected") == []


@pytest.mark.parametrize("way", ["fail", "gone", "busy"])
def test_an_answer_other_than_2xx_is_a_failure(send, receiver, way):
    """Who is busy may say when to come again."""
    (sent,) = send(receiver.url(way))
    assert sent.attempt.status == {"fail": 500, "gone": 410, "busy": 503}[way]
    assert sent.attempt.error == "refused"
    assert sent.retry_after == ("2" if way == "busy" else None)


@pytest.mark.parametrize("way", ["stall", "drip"])
def test_who_takes_too_long_is_left(send, receiver, way):
    """A stall, and a header now and then: neither goes on for longer than the time there is."""
    began = time.monotonic()
    (sent,) = send(receiver.url(way))
    assert (sent.attempt.status, sent.attempt.error) == (None, "timed_out")
    assert time.monotonic() - began < 2 * SECONDS
    assert SECONDS * 1000 <= sent.attempt.duration_ms < 2 * SECONDS * 1000


def test_a_flood_is_cut(send, receiver):
    """A few kilobytes are read; the connection is closed long before all of it is there."""
    (sent,) = send(receiver.url("flood"))
    assert sent.attempt.error is None
    assert len(sent.attempt.answer) == ANSWER_BYTES
    assert sent.attempt.duration_ms < (SECONDS + ANSWER_SECONDS) * 1000
    assert receiver.flooded_bytes < FLOOD_BYTES / 4


def test_an_answer_without_end_is_as_good_as_its_status(send, receiver):
    """What is said after 200 OK decides nothing, and gets little time."""
    (sent,) = send(receiver.url("trickle"))
    assert (sent.attempt.status, sent.attempt.error) == (200, None)
    assert sent.attempt.answer.startswith(".")
    assert sent.attempt.duration_ms < (SECONDS + ANSWER_SECONDS) * 1000


def test_what_is_no_http_is_a_failure(send, receiver):
    """Whatever comes, it is a code and not a crash."""
    (sent,) = send(receiver.url("garbage"))
    assert (sent.attempt.status, sent.attempt.error) == (None, "broken_answer")


def test_a_port_that_nobody_listens_on_is_a_failure(send):
    """And so is a name that there isn't."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        (sent,) = send(f"http://127.0.0.1:{reserved.getsockname()[1]}/")
    assert sent.attempt.error == "unreachable"
    (sent,) = send("https://no-such-host.invalid/")
    assert sent.attempt.error == "unresolved"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "2130706433", "0x7f.1", "017700000001", "127.1", "localhost", "[::ffff:127.0.0.1]", "[::1]"]
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_this_machine_is_not_called_in_any_spelling(send, receiver, host, scheme):
    """Unless it is allowed: no connection is made at all."""
    port = receiver.base.rpartition(":")[2]
    before = len(receiver.received)
    (sent,) = send(f"{scheme}://{host}:{port}/ok/spelled", allowed=())
    assert sent.attempt.error == "address_refused"
    assert len(receiver.received) == before


def test_without_tls_only_allowed_networks_are_called(send):
    """However public the address is."""
    (sent,) = send("http://example.com/", allowed=(), resolve=Answers(["93.184.216.34"]))
    assert sent.attempt.error == "address_refused"


def test_a_name_that_leads_elsewhere_the_second_time_is_judged_the_second_time(send, receiver):
    """DNS rebinding: each attempt asks once, and is made to what that answer said."""
    port = receiver.base.rpartition(":")[2]
    resolve = Answers(["127.0.0.1"], ["169.254.169.254"], ["127.0.0.1", "10.0.0.1"])
    sent = send(f"http://rebinding.example:{port}/ok/rebound", count=3, resolve=resolve)
    assert [one.attempt.error for one in sent] == [None, "address_refused", None]
    assert resolve.asked == ["rebinding.example"] * 3
    got = receiver.at("/ok/rebound")
    assert [one["headers"]["host"] for one in got] == [f"rebinding.example:{port}"] * 2


def test_nothing_resolves_the_name_but_what_is_judged(send, receiver, monkeypatch):
    """The connection is made to the address: the system's resolver is not asked a second time behind our back."""

    port = receiver.base.rpartition(":")[2]
    original = socket.getaddrinfo

    def only_numbers(host, *arguments, **options):
        addresses.parsed(host if isinstance(host, str) else host.decode())
        return original(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", only_numbers)
    (sent,) = send(f"http://pinned.example:{port}/ok/pinned", resolve=Answers(["127.0.0.1"]))
    assert sent.attempt.error is None


def test_the_next_address_of_a_name_is_tried(send, receiver):
    """When the first does not answer, in the order in which they came."""
    port = receiver.base.rpartition(":")[2]
    (sent,) = send(f"http://two.example:{port}/ok/two", resolve=Answers(["127.0.0.9", "127.0.0.1"]))
    assert sent.attempt.error is None


@pytest.fixture
def stalled(monkeypatch) -> Iterator[Callable[[], int]]:
    """Name servers of ``*.stalled.example`` do not answer until the end. Gives how many lookups wait for them."""
    end, original, begun = threading.Event(), socket.getaddrinfo, []

    def getaddrinfo(host, *arguments, **options):
        if not host.endswith(".stalled.example"):
            return original(host, *arguments, **options)
        begun.append(host)
        end.wait()
        raise OSError

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield lambda: len(begun)
    end.set()


def get(name: str, port: int = 1) -> httpx.Request:
    return httpx.Request("GET", f"http://{name}:{port}/ok/beside")


def test_names_whose_servers_stall_hold_up_no_other(receiver, stalled):
    """As many as a courier has in hand at most; asyncio's own threads would be fewer."""
    port = int(receiver.base.rpartition(":")[2])

    async def call() -> int:
        async with Egress(LOOPBACK, lookups=65) as egress:
            names = [f"{number}.stalled.example" for number in range(64)]
            waiting = [asyncio.create_task(egress.handle_async_request(get(name))) for name in names]
            async with asyncio.timeout(5):
                answer = await egress.handle_async_request(get("localhost", port))
            for one in waiting:
                one.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            await answer.aclose()
            return answer.status_code

    assert asyncio.run(call()) in range(200, 600)
    assert stalled() == 64


def test_a_name_has_so_long_to_be_resolved(stalled, monkeypatch):
    """Less than an attempt may take in all."""
    monkeypatch.setattr(egress_module, "LOOKUP_SECONDS", 0.1)

    async def call() -> None:
        async with Egress(LOOPBACK) as egress, asyncio.timeout(5):
            await egress.handle_async_request(get("a.stalled.example"))

    with pytest.raises(Unresolved):
        asyncio.run(call())


def test_no_proxy_of_the_environment_is_used(send, receiver, monkeypatch):
    """It would call for us what we may not."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    (sent,) = send(receiver.url("ok", "direct"))
    assert sent.attempt.error is None


def test_tls_is_for_the_name_and_not_for_the_address(send, tmp_path, monkeypatch):
    """The name of the URL is asked for and verified, though the connection is made to a number."""
    certificate, key = make_certificate(tmp_path, "tls.example")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with tls_server(certificate, key) as (port, names):
        (right,) = send(f"https://tls.example:{port}/", resolve=Answers(["127.0.0.1"]))
        (wrong,) = send(f"https://other.example:{port}/", resolve=Answers(["127.0.0.1"]))
    assert (right.attempt.status, right.attempt.error) == (204, None)
    assert (wrong.attempt.status, wrong.attempt.error) == (None, "unreachable")
    assert names == ["tls.example", "other.example"]


def test_while_both_are_live_both_secrets_sign(settings, receiver):
    """The receiver may have changed to the new one, or not yet."""
    seal = Seal(settings)
    old, new = SECRET, signing.new_secret()
    kept = signing.rotated([SealedSecret(seal.close(old))], seal.close(new), time.time(), 60.0)
    headers = signing.headers("msg_d_1_completed", time.time(), "{}", signing.opened(kept, seal, time.time()))
    for secret in (old, new):
        Webhook(secret).verify("{}", headers)


def make_certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate for a name, which vouches for itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "certificate.pem", folder / "key.pem"
    certificate_file.write_bytes(made.public_bytes(Encoding.PEM))
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate_file, key_file


@contextmanager
def tls_server(certificate: Path, key: Path) -> Iterator[tuple[int, list[str]]]:
    """Answers 204 over TLS. Gives its port, and the names that it is asked for."""
    names: list[str] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.sni_callback = lambda _socket, name, _context: names.append(name)

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # it is closed: the test is over
                return
            with suppress(OSError), context.wrap_socket(connection, server_side=True) as wrapped:
                received = b""
                # All of it: what is left unread would reset the connection.
                while not received.endswith(b"}") and (piece := wrapped.recv(65536)):
                    received += piece
                wrapped.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
            connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield listener.getsockname()[1], names
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def test_nothing_is_sent_by_whose_lease_would_end_meanwhile(send, receiver):
    """A process that stood still since it claimed a message would send it after those that follow it."""
    with pytest.raises(LeaseOver):
        send(receiver.url("ok", "late"), until=time.time() + SECONDS / 2)
    assert receiver.at("/ok/late") == []
