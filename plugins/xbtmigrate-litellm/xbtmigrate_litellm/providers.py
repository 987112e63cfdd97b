"""Encoder plugin: what differs from provider to provider and LiteLLM leaves to its caller."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Provider:
    """Limits of one provider, and how it is told queries from documents.

    Attributes:
        max_items: Most texts in one request.
        max_tokens: Most tokens in one request.
        option: Parameter of a request that says what the texts are, "" if there is none.
        query: Its value for queries.
        passage: Its value for documents.
    """

    max_items: int = 512
    max_tokens: int = 200_000
    option: str = ""
    query: str = ""
    passage: str = ""


_COHERE = Provider(96, 100_000, "input_type", "search_query", "search_document")
_GOOGLE = Provider(100, 20_000, "task_type", "RETRIEVAL_QUERY", "RETRIEVAL_DOCUMENT")
_PROVIDERS = {
    "cohere": _COHERE,
    "voyage": Provider(128, 100_000, "input_type", "query", "document"),
    "gemini": _GOOGLE,
    "vertex_ai": _GOOGLE,
    "mistral": Provider(max_tokens=16_000),
}


def find_provider(name: str, model: str) -> Provider:
    """Return what is known of a provider; for one that is not listed, OpenAI's limits.

    Args:
        name: LiteLLM's name of the provider.
        model: Name of the model there.
    """
    # Bedrock passes requests to the models of several makers.
    if name == "bedrock" and "cohere." in model:
        return _COHERE
    return _PROVIDERS.get(name, Provider())
