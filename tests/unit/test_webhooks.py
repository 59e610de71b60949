"""What messages say."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.deliveries import Fault
from shared.jobs import FINAL, Status
from shared.webhooks import CHOICE, TYPE_OF, EventType, of_disabling, of_entry, of_state, of_test, wants
from tests.unit.test_protocol import EXAMPLE, PROTOCOL

ENTRY = {
    "id": "01jd",
    "filename": "a.pdf",
    "status": "COMPLETED",
    "attempt": 1,
    "seq": 17,
    "at": "2026-11-23T20:00:00.123Z",
    "error": None,
    "tenant": "acme",
    "webhook": "",
    "counts": {"pages": 3, "chunks": 4},
}

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def entry(**values) -> bytes:
    return json.dumps({**ENTRY, **values}).encode()


def test_a_message_has_these_bytes():
    """A change of what receivers read is seen here."""
    message = of_entry(entry())
    assert message.body == (
        '{"type":"ingestion.completed","timestamp":"2026-11-23T20:00:00.123Z","data":{"id":"01jd","filename":"a.pdf",'
        '"status":"COMPLETED","attempt":1,"seq":17,"counts":{"pages":3,"chunks":4},"links":{"status":"/status/01jd",'
        '"stream":"/status/stream/01jd","chunks":"/ingestions/01jd/chunks"}}}'
    )
    assert (message.message_id, message.tenant, message.lane, message.seq) == (
        "msg_01jd_17_completed",
        "acme",
        "01jd",
        17,
    )


@pytest.mark.parametrize("status", sorted(set(Status) - {Status.PENDING}))
def test_every_status_but_that_of_waiting_is_told(status):
    """Each final one by a type of its own; the result is linked when there is one."""
    message = of_entry(entry(status=status))
    body = json.loads(message.body)
    assert body["type"] == message.type == TYPE_OF[status]
    assert ("chunks" in body["data"]["links"]) == (status is Status.COMPLETED)
    assert [kind for kind in FINAL if TYPE_OF[kind] == message.type] == [status] * (status in FINAL)


def test_the_document_lists_every_type_and_every_fault():
    """PROTOCOL.md and the code say the same."""
    section = PROTOCOL.split("## Webhooks")[1].split("\n## ")[0]
    assert re.findall(r"^\| `([a-z_.]+)` \|", section, re.MULTILINE) == [
        *(kind for kind in EventType if not kind.startswith("endpoint")),
        *(kind for kind in EventType if kind.startswith("endpoint")),
    ]
    for fault in Fault:
        assert f"`{fault}`" in section


def test_why_a_document_failed_is_told():
    """Code and sentence, as in the state."""
    error = {"code": "encrypted", "message": "No password."}
    assert json.loads(of_entry(entry(status="FAILED", error=error)).body)["data"]["error"] == error


@given(
    st.fixed_dictionaries(
        {"filename": TEXT, "error": st.none() | st.fixed_dictionaries({"code": TEXT, "message": TEXT})}
    )
)
def test_a_message_is_small_whatever_strangers_call_their_files(values):
    """Less than 20 kB; names have at most 255 characters when they come here, sentences are cut."""
    values["filename"] = values["filename"][:255]
    if values["error"]:
        values["error"] = {name: text * 1000 for name, text in values["error"].items()}
    message = of_entry(entry(**values))
    assert len(message.body.encode()) < 20_000
    assert "." not in message.message_id


def test_an_endpoint_hears_of_what_it_has_chosen():
    """Of everything when it has chosen nothing."""
    assert wants([], EventType.STARTED)
    assert wants(["ingestion.completed"], EventType.COMPLETED)
    assert not wants(["ingestion.completed"], EventType.FAILED)


def test_a_document_that_is_completed_already_can_be_told_of_again():
    """By the same id as the first time."""
    message = of_state(EXAMPLE, "acme")
    assert (message.message_id, message.tenant) == ("msg_01jd_17_parsing", "acme")


def test_what_is_told_of_endpoints():
    """Which one, and why; a test is for one alone and can't be chosen."""
    disabled = of_disabling("ep_1", "acme", "https://x", "gone", "2026-11-23T20:00:00.123Z")
    assert json.loads(disabled.body)["data"] == {"id": "ep_1", "url": "https://x", "reason": "gone"}
    assert disabled.message_id == "msg_ep_1_20261123200000123"
    test = of_test("msg_test_1", "ep_1", "acme", "2026-11-23T20:00:00.123Z")
    assert test.alone
    assert test.type not in CHOICE
