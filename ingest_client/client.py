"""The Python client: upload a document, watch it, fetch what came of it. It knows no command and no terminal."""

from __future__ import annotations

import dataclasses
import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, TypedDict, Unpack
from urllib.parse import quote

import httpx

from ingest_client.confluence import confluence
from ingest_client.errors import RequestRefused, ServerUnreachable, UnexpectedAnswer, translated
from ingest_client.reconnect import ReconnectPolicy
from ingest_client.stream import MOST_DOCUMENTS, Stream
from ingest_client.upload import Upload
from shared.documents import Chunk, rows_from
from shared.protocol import State

DEFAULT_SERVER = "http://127.0.0.1:8000"

#: Two heartbeats of the server, and some: whoever is silent for longer is gone.
SILENCE_SECONDS = 35.0

#: Less than a server keeps an idle connection, so that a request never meets one that is being closed.
KEEPALIVE_SECONDS = 1.0

#: An upload whose connection is lost is sent again at most so often.
MOST_REPETITIONS = 2

_CHUNK_FIELDS = frozenset(field.name for field in dataclasses.fields(Chunk)) - {"tables"}


class Options(TypedDict, total=False):
    """What may be chosen for one document; what is left out is the server's default."""

    engine: str
    chunk_size: int
    chunk_overlap: int
    #: Opens an encrypted file.
    password: str
    #: Whether an earlier result of the same bytes with the same options will do.
    reuse: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Link:
    """The address of a document's stream, for an `EventSource` or `<ingest-progress stream-url>`.

    ``expires_at`` is None where the server asks for no keys. Whoever has the address sees the stream until then.
    """

    stream_url: str
    expires_at: datetime | None


class Client:
    """A server, and how to talk to it. Safe to use from several threads; close it, or use it in a ``with``."""

    def __init__(
        self,
        base_url: str = DEFAULT_SERVER,
        *,
        timeout_seconds: float = 30.0,
        silence_seconds: float = SILENCE_SECONDS,
        patience_seconds: float = 120.0,
        api_key: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """``base_url`` may have a path. Raises `ValueError` when it is not ``http://...`` or ``https://...``.

        ``api_key`` is asked for by servers that others reach. Raises `ValueError` for what can't be one.
        ``timeout_seconds``: how long each step of a request may take. ``silence_seconds``: a watched stream without a
        sign of life for so long is opened again. ``patience_seconds``: how long `watch` goes on without reaching the
        server. ``headers`` go with every request.
        """
        self._timeout = httpx.Timeout(timeout_seconds, pool=None)
        self._stream_timeout = httpx.Timeout(timeout_seconds, read=silence_seconds, pool=None)
        self._policy = ReconnectPolicy(patience_seconds=patience_seconds)
        certificates = httpx.create_ssl_context()

        def http(keepalive_connections: int) -> httpx.Client:
            return httpx.Client(
                base_url=_checked(base_url),
                headers={**authorization(api_key), **(headers or {})},
                timeout=self._timeout,
                verify=certificates,
                limits=httpx.Limits(
                    max_keepalive_connections=keepalive_connections, keepalive_expiry=KEEPALIVE_SECONDS
                ),
            )

        self._http = http(keepalive_connections=4)
        # An upload gets a connection of its own: it must know which one it is (see `upload`).
        self._upload_http = http(keepalive_connections=0)

    def submit(
        self,
        file: str | Path | BinaryIO,
        *,
        filename: str | None = None,
        sent: Callable[[int], None] = lambda _bytes: None,
        **options: Unpack[Options],
    ) -> str:
        """Upload a document and give its id.

        ``file`` is a path or an open binary file, read from where it stands; it is never held in memory as a whole.
        ``filename`` is the name to show, by default the file's own. ``sent`` hears the number of bytes sent so far.
        ``options`` are those of `Options`.

        Raises `RequestRefused` (e.g. ``too_large``, ``unsupported_media_type``), also in mid-upload; `OSError` when the
        file can't be read; `ServerUnreachable`. When the connection is lost in the middle or before the answer, a file
        that can be read again is sent again, twice at most: its Idempotency-Key sees to it that it is ingested once.
        """
        if isinstance(file, str | Path):
            with Path(file).open("rb") as opened:
                return self.submit(opened, filename=filename or Path(file).name, sent=sent, **options)
        upload = Upload(file, sent)
        name = _sendable(filename or Path(str(getattr(file, "name", "document"))).name)
        key = secrets.token_urlsafe()
        for _ in range(MOST_REPETITIONS):
            try:
                return self._submit(upload, name, key, options)
            except ServerUnreachable:
                if not upload.rewind():
                    raise
        return self._submit(upload, name, key, options)

    def _submit(self, upload: Upload, name: str, key: str, options: Options) -> str:
        with translated():
            response = self._upload_http.post(
                "/ingestions",
                data={option: str(value) for option, value in options.items()},
                files={"file": (name, upload, "application/octet-stream")},  # type: ignore[dict-item]  # reads as a file
                headers={"Idempotency-Key": key},
                extensions={"trace": upload.trace},
            )
        return _id_in(_accepted(response))

    def status(self, document_id: str) -> State:
        """The present state. Raises `RequestRefused` (``unknown_ingestion``), `ServerUnreachable`."""
        with translated():
            response = self._http.get(f"/status/{quote(document_id, safe='')}")
        try:
            return State.from_json(_accepted(response).content)
        except ValueError as error:
            raise _not_ours(response) from error

    def queues(self) -> dict[str, float]:
        """How much there is to do: documents ``queued`` and ``running``, the age of the oldest of each in seconds.

        Raises `RequestRefused`, `ServerUnreachable`.
        """
        with translated():
            response = _accepted(self._http.get("/queues"))
        try:
            return {str(name): float(value) for name, value in response.json().items()}
        except (ValueError, TypeError, AttributeError) as error:
            raise _not_ours(response) from error

    def watch(self, *document_ids: str) -> Iterator[State]:
        """Each new state of the documents, in order and once, from the present one to the final one of each.

        It takes one connection for up to 500 documents, and one more for each further 500; lost connections are made
        again and resumed. Raises `ServerUnreachable` when the server can't be reached for ``patience_seconds``, and
        `RequestRefused` for an error that waiting won't mend.
        """
        ids = list(dict.fromkeys(document_ids))
        if len(ids) <= MOST_DOCUMENTS:
            return iter(self.stream(*ids))
        starts = range(0, len(ids), MOST_DOCUMENTS)
        return confluence([self.stream(*ids[start : start + MOST_DOCUMENTS]) for start in starts])

    def stream(self, *document_ids: str) -> Stream:
        """The same for at most 500 documents, as a stream that others can be added to while it is read."""
        return Stream(self._http, document_ids, self._policy, self._stream_timeout)

    def link(self, document_id: str, expires_in_seconds: int | None = None) -> Link:
        """A link to the document's stream for somebody without a key, such as a user of your page.

        It is good for as long as asked for, by default and at most for the server's ``INGEST_LINK_SECONDS``. Raises
        `RequestRefused` (``unknown_ingestion``, ``invalid_option``), `ServerUnreachable`.
        """
        wanted = {} if expires_in_seconds is None else {"expires_in": str(expires_in_seconds)}
        with translated():
            response = _accepted(self._http.post(f"/ingestions/{quote(document_id, safe='')}/links", data=wanted))
        try:
            told = response.json()
            expires_at = told["expires_at"] and datetime.fromisoformat(told["expires_at"])
            return Link(f"{self._http.base_url}".rstrip("/") + told["stream_url"], expires_at)
        except (ValueError, KeyError, TypeError) as error:
            raise _not_ours(response) from error

    def chunks(self, document_id: str) -> Iterator[Chunk]:
        """The chunks of a completed document, in order, as they come in.

        Raises `RequestRefused` (``not_ready``, ``unknown_ingestion``), `ServerUnreachable`, also in the middle.
        """
        for line in self.chunk_lines(document_id):
            try:
                yield _chunk(json.loads(line))
            except (ValueError, TypeError, KeyError) as error:
                raise UnexpectedAnswer(f"not a chunk: {line!r:.200}") from error

    def chunk_lines(self, document_id: str) -> Iterator[bytes]:
        """The same as JSON Lines, byte for byte as the server sends them, each with its line end."""
        with self._opened(f"/ingestions/{quote(document_id, safe='')}/chunks") as response:
            rest = b""
            for piece in response.iter_bytes():
                # Only "\n" ends a line: a text may hold U+2028 and others that str.splitlines would cut at.
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    yield line + b"\n"
            if rest:
                raise ServerUnreachable("the chunks broke off in the middle of a line")

    @contextmanager
    def _opened(self, path: str) -> Iterator[httpx.Response]:
        with translated(), self._http.stream("GET", path) as response:
            if not response.is_success:
                response.read()
            yield _accepted(response)

    def close(self) -> None:
        """Close all connections."""
        self._http.close()
        self._upload_http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _checked(base_url: str) -> str:
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise ValueError(f"{base_url!r} is not an address: {error}") from error
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError(f"{base_url!r} is not an address like {DEFAULT_SERVER}")
    return base_url


def authorization(api_key: str) -> dict[str, str]:
    """The headers that show a key; none for an empty one. Raises `ValueError`, which does not show it."""
    key = api_key.strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError("the API key holds characters that no key has")
    return {"Authorization": f"Bearer {key}"} if key else {}


def _sendable(filename: str) -> str:
    # A name on disk may hold bytes that are no UTF-8; Python keeps them as surrogates, which can't be encoded.
    return filename.encode(errors="replace").decode()


def _accepted(response: httpx.Response) -> httpx.Response:
    if not response.is_success:
        raise RequestRefused.from_answer(response)
    return response


def _id_in(response: httpx.Response) -> str:
    try:
        return str(response.json()["id"])
    except (ValueError, KeyError, TypeError) as error:
        raise _not_ours(response) from error


def _chunk(values: dict[str, Any]) -> Chunk:
    # A server of an earlier version sends no tables, one of a later version more than is known here.
    tables = tuple(rows_from(rows) for rows in values.get("tables", ()))
    return Chunk(**{name: values[name] for name in _CHUNK_FIELDS}, tables=tables)


def _not_ours(response: httpx.Response) -> UnexpectedAnswer:
    return UnexpectedAnswer(f"{response.url} does not answer as ingest-live does")
