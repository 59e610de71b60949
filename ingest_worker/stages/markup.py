"""HTML and Word documents as Markdown: headings, lists and tables stay what they are, everything else is text."""

from __future__ import annotations

import zipfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import mammoth
from bs4.exceptions import ParserRejectedMarkup
from markdownify import MarkdownConverter

from ingest_worker.stages import sections
from ingest_worker.stages.reading import Limits, storable
from ingest_worker.stages.sections import Sections
from ingest_worker.stages.soup import Soup
from ingest_worker.stages.text import encoding_of
from shared.errors import Encrypted, Unreadable

#: What a Word document may unpack to. A hundred thousand pages take less.
MOST_UNPACKED_BYTES = 512 * 1024 * 1024

#: Microsoft's container of old, in which an encrypted Word document is wrapped ([MS-OFFCRYPTO], 2.3.4).
_CONTAINER = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


class _Converter(MarkdownConverter):
    """With cells that stay cells when there is a bar in them."""

    def convert_td(self, element: Any, text: str, parent_tags: Any) -> str:
        """A cell of a table."""
        escaped = text.replace("|", "\\|")
        return str(super().convert_td(element, escaped, parent_tags))  # type: ignore[misc]  # mypy looks no further

    convert_th = convert_td


_CONVERTER = _Converter(heading_style="ATX", bullets="-", table_infer_header=True, strip=["img"])

#: What a browser does not show.
_UNSEEN = ["script", "style", "template", "noscript", "head", "svg"]


def opened_html(path: Path, limits: Limits) -> AbstractContextManager[Sections]:
    """The page at ``path`` in sections. Raises `Unreadable`, `TooManyPages`."""
    encoding = encoding_of(path, html=True)
    markdown = _markdown(path.read_text(encoding.name, "replace"))
    return sections.opened([markdown], limits, markup=True, repaired=encoding.is_broken)


def opened_docx(path: Path, limits: Limits) -> AbstractContextManager[Sections]:
    """The Word document at ``path`` in sections. Raises `Encrypted`, `Unreadable`, `TooManyPages`."""
    _judge(path)
    try:
        with path.open("rb") as file:
            html = mammoth.convert_to_html(file, convert_image=_no_image, external_file_access=False).value
    except MemoryError:
        raise
    except Exception as error:
        raise Unreadable("The file is not a Word document that can be read.") from error
    return sections.opened([_markdown(html)], limits, markup=True)


def _judge(path: Path) -> None:
    with path.open("rb") as file:
        if file.read(len(_CONTAINER)) == _CONTAINER:
            raise Encrypted("The file is encrypted, or from a Word of the last century.")
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except zipfile.BadZipFile as error:
        raise Unreadable("The file is too damaged to be unpacked.") from error
    if unpacked > MOST_UNPACKED_BYTES:
        raise Unreadable(f"The file unpacks to {unpacked} bytes; {MOST_UNPACKED_BYTES} is the most that is taken.")


def _markdown(html: str) -> str:
    try:
        soup = Soup(html)
        for unseen in soup(_UNSEEN):
            unseen.decompose()
        return storable(_CONVERTER.convert_soup(soup))
    except (RecursionError, ParserRejectedMarkup) as error:
        raise Unreadable("The elements of the page are nested too deeply, or make no sense.") from error


def _no_image(_image: Any) -> list[Any]:
    return []
