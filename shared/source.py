"""What was uploaded, and how it is to be ingested: what workers are told of a document, and viewers are not. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.access import DEFAULT_TENANT
from shared.options import Options


@dataclass(frozen=True, slots=True)
class Source:
    """What was uploaded: where its bytes are in storage, and how it is to be ingested.

    ``sealed_password`` is what `shared.sealing.Seal` made of the password of an encrypted file, empty without one. It
    is forgotten when the document is final. ``webhook`` is the endpoint that the upload named, empty without one.
    """

    filename: str
    media_type: str
    size_bytes: int
    sha256: str
    path: str
    options: Options
    sealed_password: str = ""
    tenant: str = DEFAULT_TENANT
    webhook: str = ""

    @property
    def fingerprint(self) -> str:
        """The same for the same bytes of the same type with the same options, of the same tenant."""
        whole = f"{self.tenant}\n{self.media_type}\n{self.sha256}\n{self.options.model_dump_json()}"
        return hashlib.sha256(whole.encode()).hexdigest()


def to_hash(source: Source) -> list[str | int]:
    """A source as the script of creation takes it: names and values in turn."""
    return [
        "filename", source.filename,
        "media_type", source.media_type,
        "size_bytes", source.size_bytes,
        "sha256", source.sha256,
        "path", source.path,
        "options", source.options.model_dump_json(),
        "sealed_password", source.sealed_password,
        "tenant", source.tenant,
        "webhook", source.webhook,
    ]  # fmt: skip


def from_hash(stored: Mapping[bytes, bytes]) -> Source:
    """A source as Redis holds it."""
    values: dict[str, Any] = {name.decode(): value.decode() for name, value in stored.items()}
    values["size_bytes"] = int(values["size_bytes"])
    values["options"] = Options(**json.loads(values["options"]))
    return Source(**values)
