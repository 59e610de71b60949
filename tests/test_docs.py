"""Documents that can't rot: what they say is compared with the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic_core import PydanticUndefined

from ingest_web.app import create_app
from shared.config import PREFIX, Settings

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def settings_rows() -> list[str]:
    rows = []
    for name, field in Settings.model_fields.items():
        default = "" if str(field.default) in ("", str(PydanticUndefined)) else f"`{field.default}`"
        rows.append(f"| `{PREFIX}{name.upper()}` | {default} | {field.description} |")
    return rows


def test_the_table_of_settings_is_complete():
    """Each variable, its default and its meaning stand in docs/settings.md as they stand in the code."""
    listed = re.findall(r"^\| `INGEST_.*$", (DOCS / "settings.md").read_text(), re.MULTILINE)
    assert listed == settings_rows()


def test_the_routes_of_the_readme_are_the_routes_of_the_app(settings):
    """Every route is documented, and every documented route is there."""
    listed = set(re.findall(r"^\| `(GET|POST|PATCH|DELETE) (\S+)`", (ROOT / "README.md").read_text(), re.MULTILINE))
    routes = {
        (method, re.sub(r"<\w+>", "{id}", rule.rule))
        for rule in create_app(settings).url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.endpoint != "static"
    }
    assert {(method, path.split("?")[0]) for method, path in listed} == routes


@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")) + sorted(DOCS.rglob("*.md")) + [ROOT / "shared/PROTOCOL.md"])
def test_links_between_documents_lead_somewhere(page):
    """A relative link names a file that is there."""
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("number", range(1, 100))
def test_decisions_are_numbered_without_holes(number):
    """Each number is used at most once, and none is left out below the highest."""
    highest = len(list((DOCS / "decisions").glob("*.md")))
    assert len(list((DOCS / "decisions").glob(f"{number:04}-*.md"))) == (1 if number <= highest else 0)


def test_make_targets_of_the_readme_exist():
    """A command that the README tells people to run is there."""
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"`?make ([a-z-]+)", (ROOT / "README.md").read_text()))
    assert targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_what_the_threat_model_names_exists():
    """Every test and every module in docs/security.md: a promise whose test is gone is none."""
    named = set(re.findall(r"`([\w./-]+)`", (DOCS / "security.md").read_text()))
    files = [
        path for folder in ("tests", "shared", "ingest_web", "ingest_worker") for path in (ROOT / folder).rglob("*")
    ]
    tests = set(
        re.findall(r"^ *def (test_\w+)", "\n".join(path.read_text() for path in files if path.suffix == ".py"), re.M)
    )
    modules = {name for name in named if name.endswith((".py", ".js"))}
    assert len(modules) > 20
    assert {name for name in modules if "/" in name and not (ROOT / name).exists()} == set()
    assert {name for name in modules if "/" not in name} <= {path.name for path in files}
    assert {name for name in named if re.fullmatch(r"test_\w+", name)} <= tests
