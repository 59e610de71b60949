"""Origins: which there are, and what each is told."""

from __future__ import annotations

import pytest

from ingest_web.app import create_app
from ingest_web.origins import METHODS, Origins
from shared.origin import is_origin, parse_list

APP = "https://app.example.com"


@pytest.mark.parametrize(
    "text",
    [
        APP,
        "http://localhost:3000",
        "http://127.0.0.1:8080",
        "http://[::1]:8080",
        "https://xn--bcher-kva.example",
        "tauri://localhost",
    ],
)
def test_an_origin_is_scheme_host_and_port(text):
    """As browsers write it in the header."""
    assert is_origin(text)


@pytest.mark.parametrize(
    "text",
    [
        "*", "null", "", "app.example.com", "https://", "https://*.example.com", APP + "/", APP + "/page", APP + "?q",
        APP + ":443", "http://a.example:80", "https://a.example:65536", "https://a.example:0", "https://a.example:",
        "HTTPS://app.example.com", "https://App.example.com", "https://me@a.example", "https://bücher.example",
        "https://a.example\r\nEvil: 1", "https://a.example\n", "https://a example",
    ],
)  # fmt: skip
def test_what_no_browser_would_send_is_no_origin(text):
    """Nothing that stands for many, and no spelling that would never match."""
    assert not is_origin(text)


def test_a_list_is_separated_by_commas():
    """Blanks around them don't count; one that is wrong is named."""
    assert parse_list(f" {APP} ,http://b:81") == (APP, "http://b:81")
    assert parse_list("") == parse_list("  ") == ()
    with pytest.raises(ValueError, match=r"^'' is not an origin"):
        parse_list(f"{APP},")


def test_an_allowed_origin_is_told_its_own_name():
    """Its name alone, what it may read besides, and that others are answered differently."""
    origins = Origins([APP, "http://b"])
    assert origins.of_answer(APP) == (
        ("Vary", "Origin"),
        ("Access-Control-Allow-Origin", APP),
        (
            "Access-Control-Expose-Headers",
            "Location, Retry-After, RateLimit, RateLimit-Policy, Idempotent-Replayed, Ingest-Partial",
        ),
    )
    assert origins.of_preflight(APP) == (
        ("Vary", "Origin"),
        ("Access-Control-Allow-Origin", APP),
        ("Access-Control-Allow-Methods", "GET, HEAD, POST, PATCH, DELETE"),
        ("Access-Control-Allow-Headers", "Content-Type, Last-Event-ID, Idempotency-Key, Authorization"),
        ("Access-Control-Max-Age", "7200"),
    )


def test_an_allowed_origin_may_use_every_method_that_a_route_has(settings):
    """And no other."""
    routes = create_app(settings).url_map.iter_rules()
    assert set(METHODS) == {method for rule in routes for method in rule.methods or ()} - {"OPTIONS"}


@pytest.mark.parametrize("origin", [None, "", "null", "*", "https://other", APP + "/", APP.upper(), APP + ":443"])
def test_another_origin_is_told_nothing(origin):
    """But for caches, which must not hand it the answer of one that is allowed."""
    assert Origins([APP]).of_answer(origin) == (("Vary", "Origin"),)
    assert Origins([APP]).of_preflight(origin) is None


@pytest.mark.parametrize("origin", [None, APP])
def test_without_a_list_there_is_no_cors(origin):
    """Not one header more."""
    assert Origins([]).of_answer(origin) == ()
    assert Origins([]).of_preflight(origin) is None
