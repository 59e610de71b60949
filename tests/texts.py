"""Makers of documents that are no PDFs. Each gives bytes, the same every time."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable

_WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"

_CONTENT_TYPES = (
    '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Default Extension="xml" ContentType="application/xml"/><Override PartName="/word/document.xml" '
    'ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>'
)

_RELATIONSHIPS = (
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="r1" '
    'Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" '
    'Target="word/document.xml"/></Relationships>'
)

ROWS = (("item", "count"), ("apples", "3"), ("pears | plums", "5"))


def markdown(sections: int) -> bytes:
    """Headings and paragraphs, and a table at the end."""
    parts = [f"# Section {n}\n\n{_sentences(n)}" for n in range(1, sections + 1)]
    table = "| item | count |\n| --- | --- |\n| apples | 3 |\n| pears \\| plums | 5 |"
    return "\n\n".join([*parts, table, "The end."]).encode()


def html(sections: int) -> bytes:
    """The same as a page, with a script that nobody sees."""
    parts = "".join(f"<h1>Section {n}</h1><p>{_sentences(n)}</p>" for n in range(1, sections + 1))
    return (
        f"<!DOCTYPE html><html><head><title>T</title><script>secret()</script></head>"
        f"<body>{parts}{html_table(ROWS)}<p>The end.</p></body></html>"
    ).encode()


def html_table(rows: Iterable[Iterable[str]]) -> str:
    """A table for the body of a page."""
    lines = (f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table>{''.join(lines)}</table>"


def docx(sections: int, xml: str = "") -> bytes:
    """The same as a Word document; ``xml`` stands for its body instead."""
    parts = "".join(
        f'<w:p><w:pPr><w:pStyle w:val="Heading1"/></w:pPr>{_run(f"Section {n}")}</w:p><w:p>{_run(_sentences(n))}</w:p>'
        for n in range(1, sections + 1)
    )
    body = xml or f"{parts}{docx_table(ROWS)}<w:p>{_run('The end.')}</w:p>"
    return zipped(
        {
            "[Content_Types].xml": _CONTENT_TYPES,
            "_rels/.rels": _RELATIONSHIPS,
            "word/document.xml": f'<w:document xmlns:w="{_WORD}"><w:body>{body}</w:body></w:document>',
        }
    )


def docx_table(rows: Iterable[Iterable[str]]) -> str:
    """A table for the body of a Word document."""
    return f"<w:tbl>{''.join(f'<w:tr>{_cells(row)}</w:tr>' for row in rows)}</w:tbl>"


def zipped(files: dict[str, str]) -> bytes:
    """A zip archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def unzipped(data: bytes) -> dict[str, bytes]:
    """The files of a zip archive."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _cells(row: Iterable[str]) -> str:
    return "".join(f"<w:tc><w:p>{_run(cell)}</w:p></w:tc>" for cell in row)


def _run(text: str) -> str:
    return f"<w:r><w:t>{text}</w:t></w:r>"


def _sentences(number: int) -> str:
    return " ".join(f"This is sentence {n} of section {number}, which goes on." for n in range(1, 80))
