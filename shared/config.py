"""The settings, built once at the entry point from a mapping; nothing else reads the environment.

Each field is the variable ``INGEST_<NAME>``. `docs/settings.md` is the table for operators; a test compares the two.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Literal, Self
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from shared import addresses, origin
from shared.errors import SettingsError

PREFIX = "INGEST_"

#: Variables that share the prefix but belong to the user's side, the ``ingest`` command. The service looks past them,
#: so that a shell in which someone has set one can start the service too.
CLIENT_VARIABLES = frozenset({"INGEST_SERVER", "INGEST_API_KEY"})

#: The address of a Unix socket holds 108 bytes on Linux, 104 on macOS, with a NUL at its end.
LONGEST_SOCKET_PATH_BYTES = 100


_WITH_KEYS = " Holds with `INGEST_AUTH=keys`; 0 is no bound."


class Engine(StrEnum):
    """Who reads the pages of a PDF."""

    #: PDFium, and pdfplumber where a page has a ruled table.
    AUTO = "auto"
    PDFPLUMBER = "pdfplumber"
    PDFIUM = "pdfium"


class Settings(BaseModel):
    """All settings, checked. Sizes are in bytes, times in seconds; both say so in their names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    var: Path = Field(Path("var"), description="Folder for everything that is kept on this machine.")
    redis_url: str = Field("", description="Redis or Valkey 7+. Empty: the embedded Valkey under `INGEST_VAR`.")
    broker_url: str = Field("", description="The Celery broker. Empty: the same Redis.")
    storage_url: str = Field("", description="Any fsspec URL for uploads. Empty: `storage` under `INGEST_VAR`.")
    database_url: str = Field("", description="SQLAlchemy URL for the chunks. Empty: SQLite under `INGEST_VAR`.")

    auth: Literal["", "keys", "off"] = Field(
        "",
        description="`keys`: every request shows an API key. `off`: everybody may do everything. Empty: as `off`, for "
        "a web node that listens on this machine alone; any other does not start.",
    )
    secret_key: SecretStr = Field(
        SecretStr(""),
        description="Seals the passwords of encrypted files and signs the links of streams; the same for all web nodes "
        "and workers. Empty: made once, in `secret.key` under `INGEST_VAR`.",
    )
    link_seconds: int = Field(
        24 * 3600,
        ge=1,
        le=366 * 24 * 3600,
        description="How long a link opens its stream, and the most that can be asked for.",
    )
    reuse: bool = Field(
        True,
        description="The same bytes with the same options get the earlier result at once. An upload may refuse it.",
    )

    limit_requests_per_minute: int = Field(
        12_000,
        ge=0,
        description="Requests with the keys of a tenant, opened streams included, over all web nodes; its links may "
        "open as many streams beside." + _WITH_KEYS,
    )
    limit_bytes_per_hour: int = Field(
        100 * 1024**3, ge=0, description="Bytes that a tenant may upload in an hour, over all web nodes." + _WITH_KEYS
    )
    limit_documents: int = Field(
        10_000, ge=0, description="Documents of a tenant that are on their way at the same time." + _WITH_KEYS
    )
    limit_streams: int = Field(
        10_000,
        ge=0,
        description="Streams of a tenant that are open at the same time, over all web nodes; links open at most half "
        "of them." + _WITH_KEYS,
    )
    idempotency_seconds: int = Field(
        24 * 3600, gt=0, description="For so long an `Idempotency-Key` of an upload gets the answer that it got first."
    )
    max_upload_bytes: int = Field(1024**3, gt=0, description="A larger upload is refused with 413.")
    upload_stall_seconds: float = Field(
        20,
        gt=0,
        le=600,
        description="64 KiB of a request's body must come, and of an answer be taken, in this time; else it is ended, "
        "an upload with 408.",
    )
    max_pages: int = Field(20_000, gt=0, description="A document of more pages is `FAILED`, code `too_many_pages`.")
    max_page_characters: int = Field(
        200_000, gt=0, description="A page of more characters is left out, and named in `warnings`."
    )
    max_document_characters: int = Field(
        200_000_000, gt=0, description="A document of more text is `FAILED`, code `too_much_text`."
    )
    page_seconds: float = Field(
        60, gt=0, description="A page that takes longer to read is left out, and named in `warnings`."
    )
    parse_address_space_bytes: int = Field(
        2 * 1024**3,
        ge=256 * 1024**2,
        description="A page for which the process that reads it needs more address space is left out, and named in "
        "`warnings`. Held on Linux only; reading ordinary pages needs about 250 MB.",
    )
    engine: Engine = Field(
        Engine.AUTO,
        description="Who reads the pages of a PDF: `auto` (PDFium, and pdfplumber where a page has a ruled table), "
        "`pdfplumber` or `pdfium`. An upload may choose another.",
    )
    chunk_size: int = Field(1000, ge=50, le=100_000, description="Target size of a chunk, in characters.")
    chunk_overlap: int = Field(100, ge=0, description="Characters that a chunk repeats from the one before.")
    retention_seconds: int = Field(
        7 * 24 * 3600, gt=0, description="A finished document is removed after this, with its file, text and chunks."
    )

    lease_seconds: float = Field(
        6, ge=0.5, le=600, description="A worker that gives no sign of life for so long is taken for lost."
    )
    silence_seconds: float = Field(
        300,
        gt=0,
        description="A worker's process whose work gives no sign for so long hangs: it is ended, and another goes on.",
    )
    pages_per_part: int = Field(32, ge=1, le=10_000, description="The most pages that a worker takes at a time.")
    max_parts_in_flight: int = Field(16, ge=1, description="Parts of one document that are worked on at the same time.")
    part_seconds: float = Field(
        60, gt=0, description="A part that takes longer is cut: what is read stays, the rest waits again."
    )
    document_seconds: float = Field(
        4 * 3600, gt=0, description="A document that costs the workers more is `FAILED`, code `took_too_long`."
    )
    report_interval_seconds: float = Field(
        0.1, ge=0, le=10, description="A worker reports at most this often per document."
    )
    history_events: int = Field(
        64, ge=1, description="Events kept per document, about, to bring a lost connection up to date."
    )

    heartbeat_seconds: float = Field(
        15, gt=0, description="A comment on a stream that is silent for so long, to keep proxies from closing."
    )
    watchdog_seconds: float = Field(
        15, gt=0, description="A watched document that was silent for so long is read again, lest a message was lost."
    )
    retry_ms: int = Field(2000, ge=0, description="How long a client waits before it reconnects.")
    stall_seconds: float = Field(
        6, gt=0, description="A viewer that takes nothing for so long, or is gone, is closed; it resumes by itself."
    )
    max_streams: int = Field(20_000, ge=1, description="Streams that a web process holds; more are asked to come back.")
    max_streams_per_address: int = Field(
        0, ge=0, description="Of these, streams of one client address; 0 is no bound. See `INGEST_TRUSTED_PROXIES`."
    )
    trusted_proxies: int = Field(
        0, ge=0, description="Proxies in front whose `X-Forwarded-For` tells the client's address."
    )
    allowed_origins: str = Field(
        "",
        description="Origins of other pages that may read the answers (CORS), such as `https://app.example.com`, "
        "separated by commas. Empty: none.",
    )
    drain_seconds: float = Field(
        30, ge=0, description="At shutdown, a web process closes its streams spread over this time."
    )

    webhook_seconds: float = Field(
        15, gt=0, le=120, description="A webhook endpoint has so long to answer, from the lookup of its name on."
    )
    webhook_retry_seconds: str = Field(
        "5,300,1800,7200,18000,36000,50400,72000,86400",
        description="How long a courier waits after each attempt at a delivery that failed, and up to a tenth longer. "
        "After the last the delivery has failed.",
    )
    webhook_disable_seconds: float = Field(
        5 * 24 * 3600, gt=0, description="An endpoint that has only failed for so long is disabled."
    )
    webhook_retention_seconds: int = Field(
        7 * 24 * 3600, gt=0, description="Deliveries that are over are removed after this, with their attempts."
    )
    webhook_allowed_networks: str = Field(
        "",
        description="Networks that webhooks may call although they are not public, and without TLS, such as "
        "`10.1.0.0/16, fd00::/8`. Empty: none.",
    )
    webhook_concurrency: int = Field(
        128,
        ge=1,
        le=1000,
        description="Deliveries that a courier has in hand at once, and four times as many with those that have been "
        "for more than half a second. A quarter of it at most for one tenant, but one always for each endpoint of "
        "`/webhooks`; an eighth for the `webhook_url`s of a tenant that lead to one host.",
    )
    webhook_endpoint_concurrency: int = Field(
        8, ge=1, description="Of these, deliveries to one endpoint; one at a time while it fails."
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="The least that is logged.")
    log_format: Literal["console", "json"] = Field("console", description="For people, or for machines.")

    @model_validator(mode="after")
    def _overlap_leaves_room(self) -> Self:
        if self.chunk_overlap >= self.chunk_size:
            raise ValueError("INGEST_CHUNK_OVERLAP must be smaller than INGEST_CHUNK_SIZE")
        return self

    @model_validator(mode="after")
    def _origins_are_origins(self) -> Self:
        try:
            origin.parse_list(self.allowed_origins)
        except ValueError as error:
            raise ValueError(f"INGEST_ALLOWED_ORIGINS: {error}") from error
        return self

    @model_validator(mode="after")
    def _webhooks_can_be_sent(self) -> Self:
        try:
            addresses.networks(self.webhook_allowed_networks)
        except ValueError as error:
            raise ValueError(f"INGEST_WEBHOOK_ALLOWED_NETWORKS: {error}") from error
        if not re.fullmatch(r"\d+(\.\d+)?(,\d+(\.\d+)?)*", self.webhook_retry_seconds.replace(" ", "")):
            raise ValueError("INGEST_WEBHOOK_RETRY_SECONDS must be numbers of seconds, separated by commas")
        return self

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """The settings that the ``INGEST_*`` variables of a mapping make, with every default filled in.

        Raises `SettingsError` that names the variable: for a value out of range, and for a name that is none.
        """
        names = [name for name in environment if name.startswith(PREFIX) and name not in CLIENT_VARIABLES]
        values = {name[len(PREFIX) :].lower(): environment[name] for name in names}
        _refuse_unknown(values)
        try:
            return cls.model_validate(values).filled_in()
        except ValidationError as error:
            raise SettingsError(_first_problem(error)) from error

    def bound(self, of: str) -> int:
        """The limit ``INGEST_LIMIT_<OF>``; 0, no bound, where no keys are asked for: everybody is one tenant there."""
        limit: int = getattr(self, f"limit_{of}")
        return limit if self.auth == "keys" else 0

    def filled_in(self) -> Settings:
        """The same settings with what follows from `var` written out, and `var` absolute."""
        var = self.var.expanduser().absolute()
        redis_url = self.redis_url or f"unix://{quote(str(valkey_socket(var)))}?db=0"
        return self.model_copy(
            update={
                "var": var,
                "redis_url": redis_url,
                "broker_url": self.broker_url or broker_url_of(redis_url),
                "storage_url": self.storage_url or str(var / "storage"),
                "database_url": self.database_url or f"sqlite:///{var / 'chunks.sqlite3'}",
            }
        )


def valkey_socket(var: Path) -> Path:
    """Where the embedded Valkey of a folder listens. The same for everyone who asks, whatever their environment.

    A path too long for a socket's address is replaced by a short one, made of its hash.
    """
    path = var / "valkey.sock"
    if len(bytes(path)) <= LONGEST_SOCKET_PATH_BYTES:
        return path
    # Not the temporary folder of the environment: two processes of one service may have different ones. Valkey creates
    # the socket for its user alone, and does not start when somebody else's is in its place.
    return Path(f"/tmp/ingest-{hashlib.sha256(bytes(path)).hexdigest()[:24]}.sock")  # noqa: S108


def broker_url_of(redis_url: str) -> str:
    """The same Redis in the words of kombu, which spells Unix sockets differently."""
    if not redis_url.startswith("unix://"):
        return redis_url
    return redis_url.replace("unix://", "redis+socket://", 1).replace("?db=", "?virtual_host=")


def _refuse_unknown(values: Mapping[str, str]) -> None:
    for name in values:
        if name not in Settings.model_fields:
            near = difflib.get_close_matches(name, Settings.model_fields, n=1)
            hint = f"; did you mean {PREFIX}{near[0].upper()}?" if near else ""
            raise SettingsError(f"{PREFIX}{name.upper()} is not a setting{hint}")


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    if not problem["loc"]:
        return problem["msg"].removeprefix("Value error, ")
    return f"{PREFIX}{str(problem['loc'][0]).upper()}: {problem['msg']}, not {problem['input']!r}"
