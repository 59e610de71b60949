"""The Lua scripts, by name. `event.lua` and `work.lua` are what they share and go before each."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

CREATE_JOB = "create_job"
RECORD_EVENT = "record_event"
BEGIN_ATTEMPT = "begin_attempt"
WITHDRAW = "withdraw"
REUSE = "reuse"
CLAIM_PART = "claim_part"
RENEW_PART = "renew_part"
SETTLE_PART = "settle_part"
LAPSE_PARTS = "lapse_parts"
STRIKE = "strike"
TAKE_SEAT = "take_seat"
SHARE_STREAMS = "share_streams"
SWAP = "swap"


@cache
def load(name: str) -> str:
    """The text of a script, ready for ``SCRIPT LOAD``."""
    folder = files("shared") / "lua"
    return "\n".join((folder / f"{part}.lua").read_text(encoding="utf-8") for part in ("event", "work", name))
