"""Without keys, a web node listens where only its own machine reaches it, or not at all."""

from __future__ import annotations

import socket

import pytest

from shared.binding import refuse_if_open
from shared.config import Settings
from shared.errors import SettingsError

OPEN = Settings()


@pytest.mark.parametrize("address", [("127.0.0.1", 8000), ("127.8.0.9", 80), ("::1", 8000), "/run/ingest.sock"])
def test_what_only_this_machine_reaches_needs_no_keys(address):
    """One laptop, or a proxy beside it."""
    refuse_if_open(OPEN, [address])


@pytest.mark.parametrize("host", ["0.0.0.0", "", "::", "192.0.2.7", "10.0.0.1", "no-such-host.invalid"])
def test_what_others_reach_is_refused_with_the_reason(host):
    """The message says what to set."""
    with pytest.raises(SettingsError, match="INGEST_AUTH"):
        refuse_if_open(OPEN, [("127.0.0.1", 8000), (host, 8000)])


@pytest.mark.parametrize("auth", ["keys", "off"])
def test_whoever_has_decided_may_listen_anywhere(auth):
    """With keys, or with something in front."""
    refuse_if_open(Settings(auth=auth), [("0.0.0.0", 8000)])


@pytest.mark.parametrize(("host", "is_refused"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_a_socket_that_listens_already_is_looked_at(host, is_refused):
    """As systemd hands one down."""
    with socket.create_server((host, 0)) as listener:
        if is_refused:
            with pytest.raises(SettingsError):
                refuse_if_open(OPEN, [listener.fileno()])
        else:
            refuse_if_open(OPEN, [listener.fileno()])
        assert listener.getsockname()[0] == host  # it is still open
