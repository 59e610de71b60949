"""Tokens of streams: only what was written here, with this secret and whole, is believed."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_web.tokens import MOST_CHARACTERS, Token, Tokens
from shared.errors import Unauthorized

NOW = 1_795_000_000
TOKEN = Token("01m857xcw5wq82xwhr9ttcn3ay", "9f86d081884c7d65", NOW + 60)
TOKENS = Tokens("secret")
TEXT = TOKENS.write(TOKEN)

anywhere = st.integers(0, len(TEXT) - 1)


def test_what_was_written_is_read_by_whoever_knows_the_secret():
    """Nodes need nothing else in common."""
    assert Tokens("secret").read(TEXT, NOW) == TOKEN
    with pytest.raises(Unauthorized, match="not one"):
        Tokens("another").read(TEXT, NOW)


def test_a_token_is_written_in_letters_that_urls_leave_alone():
    """This is its form. Whoever changes it changes the salt: tokens of before must not be misread."""
    assert TEXT == "01m857xcw5wq82xwhr9ttcn3ay.9f86d081884c7d65.6afd86fc.Z7On8cXLlF2jzw_jJMU8ccxf8joLKnWcjvi4_8R9doc"
    assert len(TEXT) < MOST_CHARACTERS


@given(anywhere, st.integers(1, 127))
def test_with_any_byte_changed_it_is_none(place, change):
    """Wherever it is changed and to whatever."""
    changed = TEXT[:place] + chr(ord(TEXT[place]) ^ change) + TEXT[place + 1 :]
    with pytest.raises(Unauthorized, match="not one"):
        TOKENS.read(changed, NOW)


def test_nor_with_another_last_letter():
    """Four of them are the same byte to a reader of base64 that is not strict."""
    others = set(string.ascii_letters + string.digits + "-_") - {TEXT[-1]}
    for letter in others:
        with pytest.raises(Unauthorized, match="not one"):
            TOKENS.read(TEXT[:-1] + letter, NOW)


@given(anywhere, st.text(max_size=3))
def test_with_anything_added_or_left_out_it_is_none(place, added):
    """No part of a token is one, nor is a token with something behind it."""
    for other in (TEXT[:place], TEXT[place + 1 :], TEXT + added + ".", added + TEXT[:place] + TEXT[place + 1 :]):
        with pytest.raises(Unauthorized, match="not one"):
            TOKENS.read(other, NOW)


@given(st.text(max_size=2 * MOST_CHARACTERS))
def test_no_other_text_is_one(text):
    """Whatever a stranger sends is answered in the same words."""
    with pytest.raises(Unauthorized, match="not one"):
        TOKENS.read(text, NOW)


def test_it_opens_until_its_second_and_not_in_it():
    """The end of a token is the same on every node."""
    assert TOKENS.read(TEXT, TOKEN.expires_at - 0.001) == TOKEN
    with pytest.raises(Unauthorized, match="expired"):
        TOKENS.read(TEXT, TOKEN.expires_at)


def test_the_words_of_a_refusal_hold_no_token():
    """They are logged and shown."""
    for text, now in ((TEXT, TOKEN.expires_at), (TEXT[:-1], NOW)):
        with pytest.raises(Unauthorized) as refused:
            TOKENS.read(text, now)
        assert TEXT[-20:-1] not in str(refused.value)
