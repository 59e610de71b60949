"""Secrets are masked in whatever is logged."""

from __future__ import annotations

import pytest

from ingest_web.tokens import Token, Tokens
from shared.redaction import redacted

TOKEN = Tokens("secret").write(Token("01m857xcw5wq82xwhr9ttcn3ay", "9f86d081884c7d65", 1_795_000_000))
SIGNATURE = TOKEN.rpartition(".")[2]


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Bearer ingest_0123456789abcdef_aB-_9 x", "Bearer ingest_0123456789abcdef_[redacted] x"),
        (f"GET /status/stream/A?token={TOKEN} HTTP/9", "GET /status/stream/A?token=[redacted] HTTP/9"),
        ("'/status/stream?token=a&id=B&token=c'", "'/status/stream?token=[redacted]&id=B&token=[redacted]'"),
        (f"{TOKEN}, {TOKEN}", f"{TOKEN.removesuffix(SIGNATURE)}[redacted], {TOKEN.removesuffix(SIGNATURE)}[redacted]"),
        ("whsec_aGVsbG8+/=", "whsec_[redacted]"),
        (
            "ingest_streams_open 3, ingest_web.hub, token is none",
            "ingest_streams_open 3, ingest_web.hub, token is none",
        ),
    ],
)
def test_the_secret_part_is_masked_and_the_rest_can_be_read(text, masked):
    """Whoever looks into a log still finds which key and which document it was."""
    assert redacted(text) == masked
