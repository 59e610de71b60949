"""Which addresses the service may call on behalf of a stranger, and how a URL must look. Pure: nothing is resolved.

A name or a spelling (decimal, octal, hex) says nothing; only the address that is connected to counts. So whoever sends
resolves first, asks here about every address, and connects to one that passed (`ingest_worker.egress`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import httpx

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MOST_URL_CHARACTERS = 2048

#: What is not on the public internet, or leads into an IPv4 network from inside an IPv6 address. The first that fits
#: gives the reason. (IANA special-purpose address registries; RFC 6890, 6052, 8215, 3056, 4380.)
REFUSED: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("unspecified", ("0.0.0.0/8", "::/128")),
    ("loopback", ("127.0.0.0/8", "::1/128")),
    ("link-local, where clouds keep their metadata", ("169.254.0.0/16", "fe80::/10")),
    ("private", ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fec0::/10")),
    ("shared by a provider's customers (CGNAT)", ("100.64.0.0/10",)),
    ("the metadata of a cloud", ("168.63.129.16/32", "192.0.0.192/32")),
    ("multicast", ("224.0.0.0/4", "ff00::/8")),
    ("an IPv4 address in an IPv6 one", ("::ffff:0:0/96", "::ffff:0:0:0/96", "::/96")),
    ("a translated IPv4 address (NAT64)", ("64:ff9b::/96", "64:ff9b:1::/48")),
    ("a tunnelled IPv4 address (6to4)", ("2002::/16", "192.88.99.0/24")),
    ("a tunnelled IPv4 address (Teredo)", ("2001::/32",)),
    (
        "reserved",
        (
            *("192.0.0.0/24", "192.0.2.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4"),
            *("100::/64", "100:0:0:1::/64", "2001::/23", "2001:db8::/32", "3fff::/20", "5f00::/16"),
        ),
    ),
)

_REFUSED: tuple[tuple[str, Network], ...] = tuple(
    (reason, ip_network(network)) for reason, networks in REFUSED for network in networks
)

#: Of IPv6 only this is the public internet.
_GLOBAL_UNICAST = IPv6Network("2000::/3")


def refusal(address: Address, allowed: Sequence[Network] = (), *, in_clear: bool = False) -> str | None:
    """Why this address is not to be called; None when it may be.

    ``allowed`` networks may always be called, and nothing else ``in_clear``, without TLS.
    """
    if any(address in network for network in allowed):
        return None
    for reason, network in _REFUSED:
        if address in network:
            return f"the address is {reason}"
    if isinstance(address, IPv6Address) and (address.scope_id or address not in _GLOBAL_UNICAST):
        return "the address is reserved"
    return "without TLS only networks that the operator has allowed are called" if in_clear else None


def parsed(text: str) -> Address:
    """An address as the system's resolver writes it. Raises `ValueError`."""
    return ip_address(text)


def networks(text: str) -> tuple[Network, ...]:
    """The networks of a list with commas, such as ``10.1.0.0/16, fd00::/8``. Raises `ValueError`."""
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def checked_url(text: str) -> httpx.URL:
    """The URL of an endpoint; its host ends with no dot. Raises `ValueError` that says what is wrong with it."""
    if len(text) > MOST_URL_CHARACTERS:
        raise ValueError(f"the URL is longer than {MOST_URL_CHARACTERS} characters")
    if not text.isascii() or any(character <= " " or character in '\\"<>^`{|}\x7f' for character in text):
        raise ValueError("the URL holds a character that must be encoded")
    try:
        url = httpx.URL(text)
        host = url.raw_host.decode("ascii")
        if host.endswith("."):  # the same host as without it, which is how TLS knows it (RFC 6066)
            url = url.copy_with(host=host[:-1])
    except httpx.InvalidURL as error:
        raise ValueError("this is no URL") from error
    _check_parts(url)
    return url


def _check_parts(url: httpx.URL) -> None:
    if url.scheme not in {"https", "http"}:
        raise ValueError("the URL must begin with https://")
    if not url.host or url.host.endswith("."):
        raise ValueError("the URL names no host")
    if url.userinfo:
        raise ValueError("the URL must hold no user name and no password")
    if url.fragment or not 0 < (url.port or 443) < 2**16 or url.port == 0:
        raise ValueError("the URL has a fragment, or a port that there is not")


def first_refusal(found: Iterable[Address], allowed: Sequence[Network], *, in_clear: bool) -> str | None:
    """Why none of these addresses may be called; None when one may be, or there are none."""
    reasons = [refusal(address, allowed, in_clear=in_clear) for address in found]
    return None if not reasons or None in reasons else reasons[0]
