"""The short form of ``make attack``."""

from __future__ import annotations

from tests.attack.__main__ import run
from tests.attack.report import show


def test_nothing_gets_through(tmp_path):
    """Of each kind of attack a sample: no key, another tenant's key, hostile names, broken requests, and so on."""
    outcomes = run(tmp_path, short=True)
    show(outcomes)
    assert {outcome.what: outcome.through for outcome in outcomes if outcome.through} == {}
    assert all(outcome.tries for outcome in outcomes)
