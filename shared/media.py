"""The media types that are taken in, as the web tier tells them and the stages read them."""

from __future__ import annotations

from enum import StrEnum


class MediaType(StrEnum):
    """What a file is."""

    PDF = "application/pdf"
    DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
    HTML = "text/html"
    MARKDOWN = "text/markdown"
    TEXT = "text/plain"

    @property
    def is_markup(self) -> bool:
        """Whether its text is Markdown once it is parsed."""
        return self in {MediaType.DOCX, MediaType.HTML, MediaType.MARKDOWN}
