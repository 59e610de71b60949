"""What an uploader may choose for one document. The rest comes from the settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from shared import addresses
from shared.config import Engine, Settings
from shared.errors import InvalidOption


class Options(BaseModel):
    """How one document is ingested. Each field is a form field of ``POST /ingestions``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine: Engine = Engine.AUTO
    chunk_size: int = Field(ge=50, le=100_000)
    chunk_overlap: int = Field(ge=0)

    @model_validator(mode="after")
    def _overlap_leaves_room(self) -> Self:
        if self.chunk_overlap >= self.chunk_size:
            raise ValueError("chunk_overlap must be smaller than chunk_size")
        return self

    @classmethod
    def from_form(cls, form: Mapping[str, str], settings: Settings) -> Options:
        """The options that form fields make, over the settings. Raises `InvalidOption` that names the field."""
        defaults = {
            "engine": settings.engine,
            "chunk_size": settings.chunk_size,
            "chunk_overlap": settings.chunk_overlap,
        }
        try:
            return cls.model_validate({**defaults, **form})
        except ValidationError as error:
            raise _invalid(error) from error


class Terms(BaseModel):
    """How an upload is to be treated, beside `Options`: nothing of it changes the result or is kept in the clear."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: Opens an encrypted file.
    password: SecretStr = SecretStr("")
    #: Whether an earlier result of the same bytes with the same options will do.
    reuse: bool = True
    #: Hears of this document, beside the tenant's webhook endpoints.
    webhook_url: str = Field("", max_length=addresses.MOST_URL_CHARACTERS)

    @field_validator("webhook_url")
    @classmethod
    def _is_url(cls, value: str) -> str:
        return str(addresses.checked_url(value)) if value else ""

    @classmethod
    def from_form(cls, form: Mapping[str, str], settings: Settings) -> Self:
        """The terms that form fields make, over the settings. Raises `InvalidOption` that names the field."""
        try:
            return cls.model_validate({"reuse": settings.reuse, **form})
        except ValidationError as error:
            raise _invalid(error) from error


def _invalid(error: ValidationError) -> InvalidOption:
    problem = error.errors()[0]
    name = str(problem["loc"][0]) if problem["loc"] else ""
    message = problem["msg"].removeprefix("Value error, ")
    return InvalidOption(f"{name}: {message}" if name else message, option=name or None)
