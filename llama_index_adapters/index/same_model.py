"""Whether the vectors of an index come from a model: some passages are embedded again."""

from __future__ import annotations

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.schema import MetadataMode

from llama_index_adapters.checks import seeded_generator
from llama_index_adapters.errors import InvalidDatasetError, ModelMismatchError
from llama_index_adapters.files.text import is_encodable
from llama_index_adapters.index.corpus import IndexCorpus
from llama_index_adapters.retrieval.ranking import unit_rows
from llama_index_adapters.serving.model import AdapterEmbeddingModel
from llama_index_adapters.vectors.identity import IdentifiedModel
from llama_index_adapters.vectors.request import ask_passages

# How many stored passages are embedded again, to see that the model is the index's.
CHECKED_PASSAGES = 3
# The least cosine between a stored vector and the same text embedded again. Services answer
# slightly differently from call to call, and a store may round to half precision; another
# model of the same dimension is near 0. Codes of a quantised index are further away.
SAME_COSINE = 0.99
SAME_COSINE_OF_CODES = 0.7
_TRIED_FOR_TEXTS = 30


def require_same_model(corpus: IndexCorpus, embed_model: BaseEmbedding, seed: int) -> int:
    """Refuse a model that the stored vectors do not come from.

    Args:
        corpus: what was read from the index.
        embed_model: the model.
        seed: of the choice of the passages.

    Returns:
        How many passages were embedded.

    Raises:
        ModelMismatchError: for another dimension, or other vectors of the same texts.
        InvalidDatasetError: when there are no texts to check with.
        EmbeddingError: when the model fails.
    """
    rows, texts = _some_passages(corpus, seed)
    name = IdentifiedModel(embed_model).label
    again = ask_passages(embed_model, texts)
    if again.shape[1] != corpus.vectors.shape[1]:
        maps_passages = isinstance(embed_model, AdapterEmbeddingModel)
        raise ModelMismatchError(
            f"The stored vectors have {corpus.vectors.shape[1]} dimensions, those of {name} "
            f"{again.shape[1]}. Give the model that the index was built with"
            + ("; rewrite_index copies the index for this adapter." if maps_passages else ".")
        )
    cosines = (unit_rows(again) * unit_rows(corpus.vectors[rows])).sum(axis=1)
    least = SAME_COSINE if corpus.exact else SAME_COSINE_OF_CODES
    apart = [
        f"{corpus.node_ids[row]!r}: {cosine:.3f}"
        for row, cosine in zip(rows, cosines.tolist(), strict=True)
        if cosine < least
    ]
    if apart:
        raise ModelMismatchError(
            f"{len(apart)} of {len(texts)} stored vectors are not what {name} gives for their "
            f"texts (cosine of {', '.join(apart)}; expected {least} or more). Give the model that "
            "the index was built with; if it is, insert the nodes whose texts have changed again."
        )
    return len(texts)


def _some_passages(corpus: IndexCorpus, seed: int) -> tuple[list[int], list[str]]:
    """Return a few rows of the corpus, drawn at random, and the texts that were embedded."""
    count = min(_TRIED_FOR_TEXTS, len(corpus))
    drawn = seeded_generator(seed).choice(len(corpus), count, replace=False)
    rows: list[int] = []
    texts: list[str] = []
    for row in drawn.tolist():
        for node in corpus.nodes_of([row]):
            # The form that VectorStoreIndex embeds.
            text = node.get_content(metadata_mode=MetadataMode.EMBED)
            if text.strip() and is_encodable(text):
                rows.append(row)
                texts.append(text)
        if len(texts) == CHECKED_PASSAGES:
            break
    if not texts:
        raise InvalidDatasetError(
            f"{count} nodes of the {corpus.store} have no text, so that it cannot be checked which "
            "model their vectors come from. Give the docstore that holds them."
        )
    return rows, texts
