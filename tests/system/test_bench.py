"""The benchmarks run, end by themselves, and count right. What is fast is not for a test to say."""

from __future__ import annotations

import json

import psutil

from bench import parse_speed, relay_latency, relay_scale, vanishing
from bench.contenders import contenders
from bench.targets import FLOOR, PEER, SERVICE
from tests import pdfs

TIMES_IN_ORDER = ("p50_ms", "p90_ms", "p99_ms", "max_ms")


def test_relay_latency_counts_every_delivery(tmp_path, capsys):
    """Each viewer gets each event once, from each of the targets, and the report says so."""
    report = tmp_path / "report.json"
    before = psutil.Process().children(recursive=True)

    relay_latency.main(
        ["--viewers", "50", "--documents", "1", "10", "--seconds", "1", "--rounds", "1", "--json", str(report)]
    )

    assert "50 viewers, one document" in capsys.readouterr().out
    shared, spread = json.loads(report.read_text())["setups"]
    for setup, expected in ((shared, 10 * 50), (spread, 100 * 5)):
        targets = {target["target"]: target for target in setup["targets"]}
        assert list(targets) == [SERVICE, PEER, FLOOR]
        for target in targets.values():
            assert [window["delivered"] for window in target["windows"]] == [expected]
            assert [window["expected"] for window in target["windows"]] == [expected]
            for window in target["windows"]:
                times = [window[name] for name in TIMES_IN_ORDER]
                assert 0 < window["first_ms"] <= window["last_ms"] <= window["max_ms"]
                assert times == sorted(times)
                assert window["cpu_us"] > 0
        assert targets[SERVICE]["redis_connections"] < 10
        assert targets[PEER]["redis_connections"] >= 50
    assert psutil.Process().children(recursive=True) == before


def test_relay_scale_counts_every_delivery_of_whoever_is_installed(tmp_path, capsys):
    """Each stream gets each publication once, in both shapes; the tables, the figures and the plot say the same."""
    before = psutil.Process().children(recursive=True)

    relay_scale.main(
        ["--viewers", "30", "--rates", "600", "--rounds", "1", "--seconds", "0.3", "--unpinned", "--out", str(tmp_path)]
    )

    printed = capsys.readouterr().out
    report = json.loads((tmp_path / "relay.json").read_text())
    markdown, plot = (tmp_path / "relay.md").read_text(), (tmp_path / "relay.svg").read_text()
    installed = [contender.name for contender in contenders() if not contender.missing]
    assert SERVICE in installed
    assert len(installed) >= 2  # the floor is always there
    for standing, title in zip(report["standings"], ("one document", "one document each"), strict=True):
        assert [opening["target"] for opening in standing["openings"]] == installed
        assert [point["target"] for point in standing["points"]] == installed
        for point in standing["points"]:
            (window,) = point["windows"]
            assert window["delivered"] == window["expected"] == 180
            assert 0 < window["p50_ms"] <= window["p99_ms"] <= window["max_ms"]
            assert window["cpu_us"] > 0
        for told in (printed, markdown, plot):
            assert f"30 viewers, {title}" in told
    assert all(name in markdown and name in plot for name in installed)
    assert psutil.Process().children(recursive=True) == before


def test_nothing_is_left_of_clients_that_are_killed(tmp_path, monkeypatch):
    """Streams, descriptors and subscriptions are all gone, and the measurement says which case it was."""
    monkeypatch.setattr(vanishing, "can_cut", lambda: False)
    found = vanishing.measure(contenders()[0], tmp_path / "site", viewers=20, heartbeat_seconds=15, most_seconds=20)
    assert found.how == vanishing.KILLED
    assert found.after_seconds is not None
    assert (found.last.streams, found.last.subscriptions) == (0, 0)


def test_parse_speed_measures_each_engine_on_the_same_file(tmp_path):
    """Every figure is there, the texts are alike, and the tables have pdfplumber's cells."""
    (tmp_path / "prose.pdf").write_bytes(pdfs.prose(10))
    figures = parse_speed.measure(tmp_path / "prose.pdf", tmp_path, rounds=1)
    parse_speed.show([figures])
    assert figures.pages == 10
    assert len(figures.service_seconds) == 4
    assert min(figures.loop_seconds, figures.in_process_seconds, *figures.service_seconds.values()) > 0
    assert figures.likeness > 0.98
    assert (figures.tables, figures.tables_equal) == (1, 1)
