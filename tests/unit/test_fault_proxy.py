"""The proxy that makes faults: what it understands of what Redis says."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.fault_proxy import published, whole_replies

MESSAGE = b"*3\r\n$7\r\nmessage\r\n$3\r\na:b\r\n$6\r\n1\r\n2\r\n\r\n"
CONFIRMATION = b"*3\r\n$9\r\nsubscribe\r\n$3\r\na:b\r\n:1\r\n"
REPLIES = [b"+OK\r\n", MESSAGE, CONFIRMATION, b"*2\r\n$4\r\npong\r\n$0\r\n\r\n", b"$-1\r\n", b"*0\r\n", b"-ERR no\r\n"]


@given(st.lists(st.sampled_from(REPLIES)), st.data())
def test_replies_are_told_apart_wherever_they_are_cut(replies, data):
    """Each comes whole, once, and in order, however the network cuts them."""
    stream = b"".join(replies)
    at = data.draw(st.integers(0, len(stream)), label="cut")
    first, rest = whole_replies(stream[:at])
    second, nothing = whole_replies(rest + stream[at:])
    assert first + second == replies
    assert nothing == b""


def test_a_published_message_is_known_by_its_form():
    """Only messages can be lost: a lost confirmation would be another fault."""
    assert published(MESSAGE) == (b"a:b", b"1\r\n2\r\n")
    assert [published(reply) for reply in REPLIES if reply != MESSAGE] == [None] * (len(REPLIES) - 1)
