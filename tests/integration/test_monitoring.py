"""The dashboard, the alerts and the page for operators name the metrics that are there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from ingest_web import services
from ingest_web.app import create_app
from tests.stack import ROOT

DEPLOY = ROOT / "deploy"
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
ALERTS: dict[str, Any] = yaml.safe_load((DEPLOY / "alerts.yml").read_text())
PROMETHEUS: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())

NAME = re.compile(r"\bingest_[a-z_]+")
SUFFIXES = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "gauge": [""]}

#: How wide Grafana's grid is.
COLUMNS = 24


@pytest.fixture
def exposed(settings) -> Iterator[dict[str, str]]:
    """The family of each series of ours that `GET /metrics` can show."""
    app = create_app(settings)
    text = app.test_client().get("/metrics").text
    families = [f for f in text_string_to_metric_families(text) if f.name.startswith("ingest_")]
    yield {
        family.name + suffix: family.name
        for family in families
        if not family.name.endswith("_created")
        for suffix in SUFFIXES[family.type]
    }
    services.of(app).close()


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def expressions() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def rules() -> list[dict[str, Any]]:
    return [rule for group in ALERTS["groups"] for rule in group["rules"]]


def test_every_metric_of_the_dashboard_and_the_alerts_is_exposed(exposed):
    """A panel without data, or an alert that never fires, would be worse than none."""
    named = {name for text in (*expressions(), *(rule["expr"] for rule in rules())) for name in NAME.findall(text)}
    assert named <= set(exposed)


def test_every_metric_is_on_the_dashboard(exposed):
    """Nothing is counted that nobody sees."""
    shown = {exposed[name] for text in expressions() for name in NAME.findall(text)}
    assert shown == set(exposed.values())


def test_every_metric_is_explained_to_operators_and_no_other(exposed):
    """The table of docs/operations.md has a row for each, as it is called in a query."""
    page = (ROOT / "docs" / "operations.md").read_text()
    explained = re.findall(r"^\| `(ingest_\w+?)(?:\{\w+\})?` \|", page, re.MULTILINE)
    asked_by = {name.removesuffix("_bucket") for name in exposed if not name.endswith(("_sum", "_count"))}
    assert sorted(explained) == sorted(asked_by)


def test_grafana_can_import_the_dashboard():
    """It asks for a data source, each panel has a place that no other has, and every query names its source."""
    assert DASHBOARD["schemaVersion"] >= 36
    variables = {variable["name"]: variable["type"] for variable in DASHBOARD["templating"]["list"]}
    assert variables == {"datasource": "datasource", "job": "query"}
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= COLUMNS
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    for panel in panels():
        assert panel["targets"]
        for one in (panel, *panel["targets"]):
            assert one["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_alerts_say_what_is_wrong_and_prometheus_finds_them_and_the_nodes():
    """Each has a name of its own, an urgency and a sentence; the nodes are those of compose.yaml."""
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)
    for rule in rules():
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["annotations"]["summary"]
    assert PROMETHEUS["rule_files"] == ["alerts.yml"]
    (job,) = PROMETHEUS["scrape_configs"]
    (found,) = job["dns_sd_configs"]
    assert found["names"] == ["web"]
    assert "web" in COMPOSE["services"]
    assert f":{found['port']}" in " ".join(COMPOSE["services"]["web"]["command"])
    assert {name for rule in rules() for name in re.findall(r'job="([^"]+)"', rule["expr"])} <= {job["job_name"]}
