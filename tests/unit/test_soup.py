"""Pages whose end tags are left out, as HTML allows."""

from __future__ import annotations

import pytest

from ingest_worker.stages import markup
from ingest_worker.stages.reading import Limits
from ingest_worker.stages.soup import Soup


@pytest.mark.parametrize(
    ("html", "written_out"),
    [
        ("<p>a<p>b", "<p>a</p><p>b</p>"),
        ("<p>a<b>c<p>b", "<p>a<b>c</b></p><p>b</p>"),
        ("<p>a<div>b</div>c", "<p>a</p><div>b</div>c"),
        ("<p>a<ul><li>b<li>c</ul>d", "<p>a</p><ul><li>b</li><li>c</li></ul>d"),
        ("<ul><li>a<ul><li>b<li>c</ul><li>d</ul>", "<ul><li>a<ul><li>b</li><li>c</li></ul></li><li>d</li></ul>"),
        ("<ul><li><p>a<li>b</ul>", "<ul><li><p>a</p></li><li>b</li></ul>"),
        ("<dl><dt>a<dd>b<dd>c<dt>d</dl>", "<dl><dt>a</dt><dd>b</dd><dd>c</dd><dt>d</dt></dl>"),
        (
            "<table><tr><td>a<td>b<tr><td>c<td>d</table>e",
            "<table><tr><td>a</td><td>b</td></tr><tr><td>c</td><td>d</td></tr></table>e",
        ),
        (
            "<table><thead><tr><th>a<tbody><tr><td><p>b<tr><td>c</table>",
            "<table><thead><tr><th>a</th></tr></thead><tbody><tr><td><p>b</p></td></tr><tr><td>c</td></tr></tbody></table>",
        ),
        (
            "<table><tr><td>a<table><tr><td>b</table><td>c</table>",
            "<table><tr><td>a<table><tr><td>b</td></tr></table></td><td>c</td></tr></table>",
        ),
        ("<select><option>a<option>b</select>", "<select><option>a</option><option>b</option></select>"),
        ("<div><p>a</p><p>b</p></div>", "<div><p>a</p><p>b</p></div>"),
    ],
)
def test_an_element_ends_where_html_says_so(html, written_out):
    """As if all end tags were there."""
    assert str(Soup(html)) == written_out


def test_a_page_that_goes_on_and_on_is_not_nested():
    """However many paragraphs, items and rows it has."""
    for one in ("<p>x", "<li>x", "<dd>x", "<tr><td>x"):
        soup = Soup(one * 5000)
        assert max(len(list(text.parents)) for text in soup.find_all(string=True)) <= 4


def test_a_page_without_end_tags_is_read_as_one_with_them(tmp_path):
    """Its paragraphs are paragraphs, and its table is a table."""
    rows = "".join(f"<tr><td>{n}<td>x" for n in range(50))
    path = tmp_path / "a.html"
    path.write_text(f"{'<p>Some words.' * 600}<table><tr><th>n<th>what{rows}</table>")
    with markup.opened_html(path, Limits(100, 1_000_000)) as document:
        text = "\n".join(document.reading(number).page.text for number in range(1, document.page_count + 1))
    assert text.count("Some words.") == 600
    assert "| 49 | x |" in text
    assert "\\" not in text
