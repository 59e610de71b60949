"""Whatever happens between a web node and Redis, no viewer is ever wrong, and each knows the truth in time.

Real nodes, a real Valkey, a proxy between them that cuts, silences, delays and loses; viewers that behave like an
`EventSource`. `tests.faults` says what they must never see.
"""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests import faults
from tests.fault_proxy import Kind
from tests.records import finish, new_document


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Iterator[faults.Scene]:
    """Two nodes, each behind a proxy of its own."""
    with faults.scene(tmp_path_factory.mktemp("faults")) as scene:
        yield scene


def endured(scene: faults.Scene, *names: str) -> faults.Outcome:
    outcome = faults.endure(scene, ", ".join(names), faults.in_sequence(*names))
    faults.show([outcome])
    return outcome


@pytest.mark.parametrize("name", faults.FAULTS)
def test_no_fault_makes_a_viewer_wrong(scene, name):
    """No final state missed, no event twice, no bar that falls, and the truth in bounded time."""
    outcome = endured(scene, name)
    assert outcome.wrong == []
    assert outcome.refused > 0  # whoever wrote for an attempt before


def test_one_fault_after_another_makes_no_viewer_wrong(scene):
    """What the first leaves behind is not forgotten over the second."""
    assert endured(scene, "history trimmed", "some messages lost").wrong == []


def test_nobody_is_told_to_stop_by_a_node_that_has_gone_deaf(scene):
    """204 is the one answer that nothing can heal: it says what Redis holds now, and not what the node has heard."""
    scene.in_order()
    failed, running = new_document(scene.store), new_document(scene.store)
    finish(scene.store, failed)
    node = scene.stack.web[0]
    with httpx.stream("GET", f"{node.url}/status/stream?id={failed}&id={running}", timeout=10) as watching:
        lines = watching.iter_lines()
        assert next(line for line in lines if line.startswith("id: 2."))
        scene.proxies[0].silence(Kind.PUBSUB)
        scene.store.begin_attempt(failed)
        with httpx.stream(
            "GET", f"{node.url}/status/stream/{failed}", headers={"Last-Event-ID": "2"}, timeout=10
        ) as resumed:
            assert resumed.status_code == 200
            assert next(line for line in resumed.iter_lines() if line.startswith("id: ")) == "id: 3"
