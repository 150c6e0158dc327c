"""The adapted model in LangChain's retrievers, over a store of the base model's vectors."""

from __future__ import annotations

import numpy as np
import pytest
from langchain_classic.retrievers import MultiVectorRetriever, ParentDocumentRetriever
from langchain_core.documents import Document
from langchain_core.stores import InMemoryStore
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_text_splitters import CharacterTextSplitter
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler

from llama_index_adapters import AdapterEmbeddingModel, EmbeddingAdapterFinetuneEngine
from llama_index_adapters.errors import InvalidOptionError
from llama_index_adapters.langchain import AdapterEmbeddings
from tests.fakes import WordsEmbedding, synonym_questions

QUESTIONS = synonym_questions(8)


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    """Trained on questions in other words than the passages; the base model knows none."""
    folder = tmp_path_factory.mktemp("langchain")
    engine = EmbeddingAdapterFinetuneEngine(
        QUESTIONS,
        WordsEmbedding(),
        adapter="linear",
        learning_rate=1e-2,
        model_output_path=folder / "adapter",
        store=folder / "store.sqlite3",
        show_progress=False,
    )
    assert engine.finetune().adapter == "linear"
    return AdapterEmbeddingModel(WordsEmbedding(), folder / "adapter")


def hits(retriever) -> float:
    """The share of questions whose first document is the one that answers."""
    found = [
        retriever.invoke(question)[0].page_content == QUESTIONS.corpus[passages[0]]
        for question, passages in QUESTIONS.query_docid_pairs
    ]
    return sum(found) / len(found)


async def async_hits(retriever) -> float:
    found = [
        (await retriever.ainvoke(question))[0].page_content == QUESTIONS.corpus[passages[0]]
        for question, passages in QUESTIONS.query_docid_pairs
    ]
    return sum(found) / len(found)


def vectors(store: InMemoryVectorStore) -> dict[str, bytes]:
    return {key: np.array(entry["vector"]).tobytes() for key, entry in store.store.items()}


class Swapped:
    """A store filled with the base model, then asked with the adapted one."""

    def __init__(self, adapted):
        self.adapted = AdapterEmbeddings(adapted)
        self.store = InMemoryVectorStore(AdapterEmbeddings(WordsEmbedding()))

    async def check(self, retriever):
        assert hits(retriever) < 0.2
        before = vectors(self.store)
        self.store.embedding = self.adapted
        assert hits(retriever) > 0.9
        assert await async_hits(retriever) > 0.9
        assert vectors(self.store) == before
        assert len(before) >= len(QUESTIONS.corpus)


async def test_parent_document_retriever(adapted):
    swapped = Swapped(adapted)
    retriever = ParentDocumentRetriever(
        vectorstore=swapped.store,
        docstore=InMemoryStore(),
        child_splitter=CharacterTextSplitter(separator=". ", chunk_size=20, chunk_overlap=0),
    )
    retriever.add_documents([Document(text) for text in QUESTIONS.corpus.values()])
    await swapped.check(retriever)


async def test_multi_vector_retriever(adapted):
    """Two texts stand for every document: itself and a summary."""
    swapped = Swapped(adapted)
    retriever = MultiVectorRetriever(
        vectorstore=swapped.store, docstore=InMemoryStore(), id_key="passage"
    )
    swapped.store.add_documents(
        [
            Document(text, metadata={"passage": name})
            for name, passage in QUESTIONS.corpus.items()
            for text in (passage, f"{passage} summary")
        ]
    )
    retriever.docstore.mset([(name, Document(text)) for name, text in QUESTIONS.corpus.items()])
    await swapped.check(retriever)


async def test_documents_pass_through_and_queries_are_adapted(adapted):
    embeddings, base = AdapterEmbeddings(adapted), WordsEmbedding()
    texts = list(QUESTIONS.corpus.values())[:3]
    expected = [base.vector(text) for text in texts]
    assert embeddings.embed_documents(texts) == expected
    assert await embeddings.aembed_documents(texts) == expected
    query = embeddings.embed_query("tint1 beast2")
    assert query == await embeddings.aembed_query("tint1 beast2")
    assert query == adapted.get_query_embedding("tint1 beast2")
    assert query != base.vector("tint1 beast2")


async def test_tokens_are_counted_once(adapted, monkeypatch):
    counter = TokenCountingHandler(tokenizer=str.split)
    for model in (adapted, adapted.base_embed_model):
        monkeypatch.setattr(model, "callback_manager", CallbackManager([counter]))
    embeddings = AdapterEmbeddings(adapted)
    embeddings.embed_documents(["one two", "three"])
    await embeddings.aembed_documents(["four"])
    embeddings.embed_query("five six")
    await embeddings.aembed_query("seven")
    assert counter.total_embedding_token_count == 7


def test_what_is_no_embedding_model_is_refused():
    with pytest.raises(InvalidOptionError, match="str"):
        AdapterEmbeddings("adapter")
