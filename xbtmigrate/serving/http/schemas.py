"""Schemas of request and response bodies; the OpenAPI description is generated from them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from qdrant_client import models

from xbtmigrate.serving.engine import Question
from xbtmigrate.serving.http.request_images import to_data_uris
from xbtmigrate.serving.server_fusion import SearchOptions

# Limits on the cost of one request; docs/serving.md lists most of them.
MAX_POINTS = 1000
DEEPEST = 10_000
MAX_ITEMS = 64
MAX_FIELDS = 256
MAX_NESTING = 32
"""Levels of a filter; Qdrant itself accepts few more."""
MAX_PARTS = 1000
"""Objects and lists within a filter."""

Text: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=32_768)]
Image: TypeAlias = Annotated[
    str, StringConstraints(pattern=r"^(data:image/[a-z+.-]+;base64,)?[A-Za-z0-9+/\r\n]+=*$")
]
# Qdrant and projectors compute in float32, where more than 3.4e38 is infinite.
Number: TypeAlias = Annotated[float, Field(allow_inf_nan=False, ge=-3e38, le=3e38)]
# Fail fast: one error is as useful as one for each of a million items.
Vector: TypeAlias = Annotated[list[Number], Field(min_length=1, max_length=65_536, fail_fast=True)]
Names: TypeAlias = Annotated[list[Text], Field(max_length=MAX_FIELDS, fail_fast=True)]


class Body(BaseModel):
    """A body with these keys and no others."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Request(Body):
    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, content: object) -> object:
        """Raise for the first unknown key; an error for each would make the response huge."""
        if isinstance(content, dict):
            for key in content:
                if key not in cls.model_fields:
                    raise ValueError(f"there is no key {str(key)[:80]!r}")
        return content


class SearchRequest(_Request):
    """A query: a text, an image, or the vectors that the application made from it."""

    text: Text | None = None
    image: Annotated[Image, AfterValidator(lambda given: to_data_uris([given])[0])] | None = Field(
        None, description="Base64, or a data URI."
    )
    vector: Vector | None = Field(None, description="The query, embedded with the new model.")
    old_vector: Vector | None = Field(
        None, description="The same query, embedded with the old model."
    )
    limit: int = Field(10, ge=1, le=MAX_POINTS)
    offset: int = Field(0, ge=0, le=DEEPEST)
    filter: dict[str, Any] | None = Field(None, description="A filter in Qdrant's format.")
    with_payload: bool | Names = True
    score_threshold: Number | None = Field(
        None, description="Least score in the scale of the old model."
    )

    @model_validator(mode="after")
    def _one_query(self) -> Self:
        vectors = self.vector is not None or self.old_vector is not None
        if [self.text is not None, self.image is not None, vectors].count(True) != 1:
            raise ValueError("give exactly one of text, image and vectors")
        return self

    @field_validator("filter")
    @classmethod
    def _known_filter(cls, content: dict[str, Any] | None) -> dict[str, Any] | None:
        if content is not None:
            _check_extent(content)
            try:
                models.Filter.model_validate(content)
            except ValidationError as error:
                # The first one without its input: an echoed filter could make the response huge.
                first = error.errors(include_url=False, include_input=False)[0]
                place = ".".join(map(str, first["loc"]))
                raise ValueError(f"not a Qdrant filter: {place}: {first['msg']}") from None
        return content

    def question(self) -> Question:
        """Turn the request into a question for the searcher."""
        options = SearchOptions(
            limit=self.limit,
            offset=self.offset,
            filter=None if self.filter is None else models.Filter.model_validate(self.filter),
            with_payload=self.with_payload,
            score_threshold=self.score_threshold,
        )
        return Question(self.text, self.image, self.vector, self.old_vector, options)


class Hit(Body):
    """A point found."""

    id: int | str
    score: float
    payload: dict[str, Any] | None = None


class SearchResponse(Body):
    """Points, best first, and how they were found."""

    points: list[Hit]
    serving: str = Field(description="Scores are comparable only within one serving.")
    phase: str | None = Field(description="Phase of the migration; null before the backfill.")
    note: str = Field(description="Why another serving than the intended one answered; else empty.")


class EmbedRequest(_Request):
    """Texts or images to embed."""

    texts: list[Text] | None = Field(None, min_length=1, max_length=MAX_ITEMS)
    images: Annotated[list[Image], AfterValidator(to_data_uris)] | None = Field(
        None, min_length=1, max_length=MAX_ITEMS, description="Base64, or data URIs."
    )
    model: Literal["new", "old"] = "new"

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.texts is None) == (self.images is None):
            raise ValueError("give exactly one of texts and images")
        return self


class EmbedResponse(Body):
    """One vector for each item."""

    vectors: list[list[float]]
    dimension: int
    fingerprint: str = Field(description="Equal fingerprints mean the same space.")


class Health(Body):
    """Whether the service is ready."""

    status: Literal["ok", "not ready"]
    phase: str | None = None
    problem: str = ""


class ErrorResponse(Body):
    """Why a request was refused, and what to do."""

    error: str
    hint: str = ""


def _check_extent(content: Any) -> None:
    """Refuse a filter that is too deep or too large, without recursion."""
    level, parts = [content], 0
    for _ in range(MAX_NESTING):
        parts += len(level)
        if parts > MAX_PARTS:
            raise ValueError(f"a filter has at most {MAX_PARTS} objects and lists")
        values = (node.values() if isinstance(node, dict) else node for node in level)
        level = [each for inner in values for each in inner if isinstance(each, dict | list)]
        if not level:
            return
    raise ValueError(f"a filter is nested at most {MAX_NESTING} deep, lists included")
