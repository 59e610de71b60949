"""Which addresses may be called on behalf of a stranger: by the address alone, in whatever spelling its name comes."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import addresses
from shared.addresses import checked_url, networks, parsed, refusal

PUBLIC = ["1.1.1.1", "8.8.8.8", "93.184.216.34", "172.15.255.255", "172.32.0.1", "100.63.0.1", "100.128.0.1"]
PUBLIC_6 = ["2606:4700:4700::1111", "2a00:1450:4001:830::200e", "2001:4860:4860::8888"]

REFUSED = [
    *("0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
    *("169.254.169.254", "169.254.0.1", "100.64.0.1", "100.127.255.255", "100.100.100.200", "168.63.129.16"),
    *("192.0.0.192", "192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "192.88.99.1"),
    *("224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1"),
    *("::ffff:127.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "::ffff:0:127.0.0.1"),
    *("64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::a00:1", "2002:7f00:1::", "2002:808:808::1", "2001:0:7f00:1::"),
    *("2001:db8::1", "3fff::1", "100::1", "2001:10::1", "2001:20::1", "5f00::1", "4000::1", "1::1"),
]

#: Networks in which an IPv4 address lies inside of an IPv6 one.
EMBEDDING = ["::", "::ffff:0:0", "::ffff:0:0:0", "64:ff9b::"]

PRIVATE = st.one_of(*(st.ip_addresses(network=network) for network in ("10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16")))


def resolved(spelling: str) -> list[str]:
    """What the system makes of a number in any spelling, without asking anyone."""
    found = socket.getaddrinfo(spelling, 443, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    return [answer[4][0] for answer in found]


def spellings(address: IPv4Address) -> list[str]:
    number, (a, b, c, d) = int(address), address.packed
    return [
        *(str(address), str(number), hex(number), f"0{number:o}"),
        *(f"{a}.{number & 0xFFFFFF}", f"{a}.{b}.{c << 8 | d}", f"0x{a:x}.0{b:o}.{c}.{d}"),
        *(f"0{a:o}.0{b:o}.0{c:o}.0{d:o}", f"0x{a:02X}.0x{b:02X}.0x{c:02X}.0x{d:02X}"),
    ]


@pytest.mark.parametrize("address", PUBLIC + PUBLIC_6)
def test_what_is_public_may_be_called(address):
    """With TLS, and nothing but that."""
    assert refusal(parsed(address)) is None
    assert "TLS" in refusal(parsed(address), in_clear=True)


@pytest.mark.parametrize("address", REFUSED)
def test_what_is_not_public_is_refused_with_a_reason(address):
    """This machine, its network, its provider's, the cloud's metadata, and every way into IPv4 from inside of IPv6."""
    assert refusal(parsed(address)).startswith("the address is ")


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_refused_where_the_standard_library_says_that_it_is_not_global(address):
    """Our table leaves out nothing that Python's knows of."""
    if not address.is_global or address.is_multicast:
        assert refusal(address)


@given(st.ip_addresses(v=6))
def test_an_ipv6_address_is_refused_where_the_standard_library_says_that_it_is_not_global(address):
    """The same; and what is let through is global unicast."""
    if not address.is_global or address.is_multicast:
        assert refusal(address)
    if refusal(address) is None:
        assert address in ip_network("2000::/3")


@given(PRIVATE)
def test_no_spelling_of_a_private_address_gets_through(address):
    """Decimal, octal, hex, mixed and short: what the system makes of it is what is judged."""
    for spelling in spellings(address):
        for found in resolved(spelling):
            assert refusal(parsed(found)), spelling


@given(st.ip_addresses(v=4), st.sampled_from(EMBEDDING))
def test_no_ipv4_address_gets_through_inside_an_ipv6_one(address, prefix):
    """Mapped, compatible or translated: whoever holds such a network decides what it leads to."""
    assert refusal(IPv6Address(int(IPv6Address(prefix)) | int(address)))
    assert refusal(IPv6Address(0x2002 << 112 | int(address) << 80))  # 6to4
    assert refusal(IPv6Address(0x20010000 << 96 | int(address)))  # Teredo


@given(st.ip_addresses())
def test_an_allowed_network_may_be_called_without_tls_and_no_other(address):
    """Whoever calls their own network says which."""
    own = ip_network(address)
    assert refusal(address, [own], in_clear=True) is None
    assert refusal(IPv4Address("127.0.0.1") if own.version == 6 else IPv6Address("::1"), [own])


def test_one_good_address_of_a_name_is_enough():
    """Only the good ones are called; none at all is no reason to refuse."""
    good, bad = parsed("1.1.1.1"), parsed("10.0.0.1")
    assert addresses.first_refusal([bad, good], (), in_clear=False) is None
    assert addresses.first_refusal([bad], (), in_clear=False) == "the address is private"
    assert addresses.first_refusal([], (), in_clear=False) is None


def test_networks_are_a_list_with_commas():
    """IPv4 and IPv6; an address that is no network is a mistake."""
    assert networks(" 10.1.0.0/16, fd00::/8 ,") == (ip_network("10.1.0.0/16"), ip_network("fd00::/8"))
    assert networks("") == ()
    with pytest.raises(ValueError, match="host bits"):
        networks("10.1.0.1/16")


@pytest.mark.parametrize(
    "url",
    ["https://example.com", "https://example.com:8443/hooks?a=1", "http://10.1.2.3/x", "https://[2606:4700::1]:444/"],
)
def test_a_url_may_name_a_port_a_path_and_a_query(url):
    """It comes back as it was, but for the path that every URL has."""
    assert str(checked_url(url)).rstrip("/") == url.rstrip("/")


@pytest.mark.parametrize("rest", ["", "/", "/a", ":8443/a?b=1.", "?b"])
@pytest.mark.parametrize("host", ["example.com", "EXAMPLE.com", "xn--bcher-kva.example", "93.184.216.34"])
def test_a_dot_at_its_end_makes_no_other_host(host, rest):
    """It is the same name; nobody has two shares of it, and in TLS there is none."""
    assert checked_url(f"https://{host}.{rest}") == checked_url(f"https://{host}{rest}")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "https"),
        ("ftp://example.com", "https"),
        ("file:///etc/passwd", "https"),
        ("gopher://127.0.0.1:6379/_SET", "https"),
        ("//example.com", "https"),
        ("https://", "no host"),
        ("https:///x", "no host"),
        ("https://./x", "no host"),
        ("https://.//x", "no host"),
        ("https://999.999.999.999./", "no URL"),
        ("https://example.com../x", "no host"),
        ("https://me@example.com", "no user name"),
        ("https://me:pw@example.com", "no user name"),
        ("https://example.com#part", "fragment"),
        ("https://example.com:0/", "port"),
        ("https://example.com:65536/", "port"),
        ("https://example.com:x/", "no URL"),
        ("https://exa mple.com", "encoded"),
        ("https://example.com\\@127.0.0.1", "encoded"),
        ("https://example.com/\r\nHost: x", "encoded"),
        ("https://example.com/\0", "encoded"),
        ("https://ex\u2024ample.com", "encoded"),
        ("https://example.com/" + "x" * 2048, "longer"),
    ],
)
def test_a_url_that_could_mean_two_things_is_refused(url, said):
    """With a word on what is wrong with it."""
    with pytest.raises(ValueError, match=said):
        checked_url(url)
