"""Secrets and signatures, as the public library verifies them."""

from __future__ import annotations

import base64
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from shared import signing
from shared.config import Settings
from shared.errors import SettingsError
from shared.sealing import Seal
from shared.signing import MOST_LIVE, SealedSecret, from_json, live, new_secret, rotated, to_json

#: The example of the specification's own tests (standard-webhooks, libraries/python/tests).
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_signature_is_that_of_the_specification():
    """Byte for byte, over id, time and body."""
    assert signing.headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330.9, '{"test": 2432232314}', [SECRET]) == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": SIGNATURE,
    }


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(1, MOST_LIVE))
def test_each_live_secret_verifies_what_all_of_them_sign(body, count):
    """So a receiver may change to the new one at any time while both are live."""
    secrets = [new_secret() for _ in range(count)]
    headers = signing.headers("msg_d_1_completed", time.time(), body, secrets)
    for secret in secrets:
        Webhook(secret).verify(body, headers, json_parse=False)
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(secrets[0]).verify(body + " ", headers)


def test_a_secret_is_random_and_as_long_as_it_must_be():
    """24 to 64 bytes, in base64 after its prefix."""
    secret = new_secret()
    assert secret.startswith("whsec_")
    assert 24 <= len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) <= 64
    assert secret != new_secret()


def test_an_old_secret_lives_for_the_overlap_and_no_longer():
    """The newest signs first; a rotation never lengthens the life of one before."""
    first = (SealedSecret("a"),)
    second = rotated(first, "b", now=100.0, overlap_seconds=50.0)
    assert second == (SealedSecret("b"), SealedSecret("a", 150.0))
    third = rotated(second, "c", now=120.0, overlap_seconds=1000.0)
    assert third == (SealedSecret("c"), SealedSecret("b", 1120.0), SealedSecret("a", 150.0))
    assert [one.sealed for one in live(third, 149.0)] == ["c", "b", "a"]
    assert [one.sealed for one in live(third, 150.0)] == ["c", "b"]
    assert rotated(third, "d", now=130.0, overlap_seconds=0.0)[0] == SealedSecret("d")


def test_rotations_do_not_pile_up():
    """A header has room for a few signatures."""
    kept: tuple[SealedSecret, ...] = ()
    for n in range(10):
        kept = rotated(kept, str(n), now=float(n), overlap_seconds=1000.0)
    assert [one.sealed for one in kept] == ["9", "8", "7", "6"]
    assert from_json(to_json(kept)) == kept


def test_a_secret_at_rest_needs_the_key(tmp_path):
    """With another one nothing is signed, and the error tells neither."""
    one, other = (Seal(Settings(var=tmp_path, secret_key=name)) for name in ("one", "other"))
    secret = new_secret()
    sealed = SealedSecret(one.close(secret))
    assert secret not in to_json([sealed])
    assert signing.opened([sealed], one, 0.0) == [secret]
    with pytest.raises(SettingsError) as refused:
        signing.opened([sealed], other, 0.0)
    assert secret not in str(refused.value)
