"""The adapted model as LangChain sees an embedding model (extra ``langchain``)."""

from __future__ import annotations

from llama_index.core.base.embeddings.base import BaseEmbedding

from llama_index_adapters.errors import InvalidOptionError, MissingExtraError
from llama_index_adapters.vectors.identity import checked_model

try:
    from langchain_core.embeddings import Embeddings
except ImportError as error:
    raise MissingExtraError(
        "llama_index_adapters.langchain needs langchain-core, which this environment does not "
        'have. Run: pip install "llama-index-adapters[langchain]"'
    ) from error


class AdapterEmbeddings(Embeddings):
    """A LlamaIndex embedding model for LangChain's vector stores and retrievers.

    With an :class:`~llama_index_adapters.AdapterEmbeddingModel`, queries come out adapted and
    documents as the base model gives them, so a store that holds the base model's vectors stays
    as it is. The base model itself may be given too, to compare.

    Args:
        embed_model: the model that is asked for every vector.

    Raises:
        InvalidOptionError: when ``embed_model`` is not a LlamaIndex embedding model; from its
            methods, for what is not text.

    Example:
        >>> embeddings = AdapterEmbeddings(AdapterEmbeddingModel(base_model, "adapter"))
        >>> store = InMemoryVectorStore(embeddings)
    """

    def __init__(self, embed_model: BaseEmbedding) -> None:
        self.embed_model = checked_model(embed_model)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return the base model's vectors of documents, in order."""
        return self.embed_model.get_text_embedding_batch(_texts(texts))

    def embed_query(self, text: str) -> list[float]:
        """Return the adapted vector of a query."""
        return self.embed_model.get_query_embedding(_text(text))

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return the base model's vectors of documents, in order, asynchronously."""
        return await self.embed_model.aget_text_embedding_batch(_texts(texts))

    async def aembed_query(self, text: str) -> list[float]:
        """Return the adapted vector of a query, asynchronously."""
        return await self.embed_model.aget_query_embedding(_text(text))


def _text(text: str) -> str:
    if not isinstance(text, str):
        raise InvalidOptionError(f"A query is of type {type(text).__name__}; expected a str.")
    return text


def _texts(texts: list[str]) -> list[str]:
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise InvalidOptionError(
            "texts is not a list of texts; expected one str for each document."
        )
    return texts
