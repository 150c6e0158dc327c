"""Every retriever of LlamaIndex takes the adapted model, and no stored vector changes.

Questions name devices as :mod:`tests.house_names` says; only the adapter knows those names.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from uuid import NAMESPACE_OID, uuid5

import numpy as np
import pytest
from llama_index.core import (
    Document,
    QueryBundle,
    Settings,
    StorageContext,
    SummaryIndex,
    VectorStoreIndex,
    load_index_from_storage,
)
from llama_index.core.agent.workflow import FunctionAgent, ToolCallResult
from llama_index.core.base.llms.types import ChatMessage, TextBlock, ToolCallBlock
from llama_index.core.indices.query.query_transform import HyDEQueryTransform
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.llms.mock import MockFunctionCallingLLM
from llama_index.core.node_parser import (
    HierarchicalNodeParser,
    MarkdownElementNodeParser,
    SentenceSplitter,
    SentenceWindowNodeParser,
    get_leaf_nodes,
)
from llama_index.core.node_parser.relational.base_element import TableOutput
from llama_index.core.postprocessor import MetadataReplacementPostProcessor, SimilarityPostprocessor
from llama_index.core.query_engine import RetrieverQueryEngine, TransformQueryEngine
from llama_index.core.retrievers import (
    AutoMergingRetriever,
    QueryFusionRetriever,
    RecursiveRetriever,
    RouterRetriever,
)
from llama_index.core.schema import IndexNode, MetadataMode, TextNode
from llama_index.core.selectors import EmbeddingSingleSelector, LLMSingleSelector
from llama_index.core.tools import QueryEngineTool, RetrieverTool
from llama_index.core.vector_stores import MetadataFilter, MetadataFilters
from llama_index.vector_stores.qdrant import QdrantVectorStore
from qdrant_client import QdrantClient

from llama_index_adapters import EmbeddingAdapterFinetuneEngine, local_embedding
from tests.fakes import ScriptedLLM
from tests.house_names import DEVICES, MANUALS, PASSAGES, training_questions, unseen_questions

pytestmark = pytest.mark.local_model

QUESTION = "How do I reboot the Falcon?"
ANSWER = "restart label printer"
FALCON = PASSAGES[ANSWER]
NICKNAMES = {device: nickname for nickname, device in DEVICES.items()}


@pytest.fixture(scope="module")
def base():
    return local_embedding()


@pytest.fixture(scope="module")
def adapted(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("house-names")
    engine = EmbeddingAdapterFinetuneEngine(
        training_questions(),
        base,
        adapter="linear",
        model_output_path=folder / "adapter",
        store=folder / "store.sqlite3",
        show_progress=False,
    )
    assert engine.finetune().adapter == "linear"
    return engine.get_finetuned_model()


@pytest.fixture(scope="module")
def nodes(base):
    return [
        TextNode(id_=name, text=text, metadata={"topic": name.split()[0]})
        for name, text in PASSAGES.items()
    ]


@pytest.fixture(scope="module")
def index(nodes, base):
    return VectorStoreIndex(nodes, embed_model=base)


def vectors_of(index) -> dict[str, bytes]:
    return {
        name: np.array(vector).tobytes()
        for name, vector in index.vector_store.data.embedding_dict.items()
    }


@contextmanager
def unchanged(*indexes: VectorStoreIndex) -> Iterator[None]:
    """Hold the stored vectors equal to the last byte."""
    before = [vectors_of(index) for index in indexes]
    assert all(before)
    yield
    assert [vectors_of(index) for index in indexes] == before


def first(found) -> str:
    return found[0].node.node_id


def text_of(found) -> str:
    return found[0].node.get_content(MetadataMode.NONE)


def echo(prompt: str) -> str:
    """What a language model was given to answer from, so that a test can read it."""
    return prompt


class TestVectorIndex:
    async def test_as_retriever(self, index, base, adapted):
        with unchanged(index):
            for question, passage in unseen_questions().items():
                retriever = index.as_retriever(embed_model=adapted)
                assert first(retriever.retrieve(question)) == passage
                assert first(await retriever.aretrieve(question)) == passage
            assert first(index.as_retriever().retrieve(QUESTION)) != ANSWER
            missed = [
                question
                for question, passage in unseen_questions().items()
                if first(index.as_retriever(embed_model=base).retrieve(question)) != passage
            ]
        assert len(missed) >= 4

    async def test_scores_are_those_of_the_adapted_vector(self, index, adapted):
        query = np.array(adapted.get_query_embedding(QUESTION))
        (hit,) = index.as_retriever(embed_model=adapted, similarity_top_k=1).retrieve(QUESTION)
        passage = np.array(index.vector_store.get(hit.node_id))
        cosine = query @ passage / np.linalg.norm(query) / np.linalg.norm(passage)
        assert hit.score == pytest.approx(cosine)

    async def test_as_query_engine(self, index, adapted):
        engine = index.as_query_engine(
            llm=ScriptedLLM(echo), embed_model=adapted, similarity_top_k=1
        )
        with unchanged(index):
            assert FALCON in str(engine.query(QUESTION))
            assert FALCON in str(await engine.aquery(QUESTION))
        plain = index.as_query_engine(llm=ScriptedLLM(echo), similarity_top_k=1)
        assert FALCON not in str(plain.query(QUESTION))

    def test_similarity_cutoff(self, index, adapted):
        retriever = index.as_retriever(embed_model=adapted, similarity_top_k=2)
        best, second = retriever.retrieve(QUESTION)
        engine = index.as_query_engine(
            llm=ScriptedLLM(echo),
            embed_model=adapted,
            similarity_top_k=6,
            node_postprocessors=[
                SimilarityPostprocessor(similarity_cutoff=(best.score + second.score) / 2)
            ],
        )
        assert [first([source]) for source in engine.query(QUESTION).source_nodes] == [ANSWER]

    def test_load_index_from_storage(self, index, adapted, tmp_path):
        index.storage_context.persist(tmp_path / "index")
        files = {path: path.read_bytes() for path in (tmp_path / "index").iterdir()}
        storage = StorageContext.from_defaults(persist_dir=str(tmp_path / "index"))
        loaded = load_index_from_storage(storage, embed_model=adapted)

        with unchanged(loaded):
            assert first(loaded.as_retriever().retrieve(QUESTION)) == ANSWER
        assert vectors_of(loaded) == vectors_of(index)
        loaded.storage_context.persist(tmp_path / "index")
        assert {path: path.read_bytes() for path in (tmp_path / "index").iterdir()} == files

    def test_settings_embed_model(self, index, nodes, adapted, monkeypatch):
        """It builds the index too: passages come out as the base model gives them."""
        monkeypatch.setattr(Settings, "_embed_model", adapted)
        built = VectorStoreIndex(nodes)
        assert vectors_of(built) == vectors_of(index)
        assert first(built.as_retriever().retrieve(QUESTION)) == ANSWER

    def test_metadata_filters(self, index, adapted):
        filters = MetadataFilters(filters=[MetadataFilter(key="topic", value="warranty")])
        retriever = index.as_retriever(embed_model=adapted, filters=filters, similarity_top_k=6)
        with unchanged(index):
            found = retriever.retrieve(QUESTION)
        assert {hit.metadata["topic"] for hit in found} == {"warranty"}
        assert first(found) == "warranty label printer"


class TestIngestionPipeline:
    def test_passages_pass_through_and_are_cached(self, nodes, base, adapted, monkeypatch):
        asked = []
        embed = type(base)._get_text_embeddings
        monkeypatch.setattr(
            type(base),
            "_get_text_embeddings",
            lambda model, texts: asked.extend(texts) or embed(model, texts),
        )
        by_base = IngestionPipeline(transformations=[base]).run(nodes=nodes)
        assert len(asked) == len(nodes)
        pipeline = IngestionPipeline(transformations=[adapted])
        ingested = pipeline.run(nodes=nodes)
        assert [node.embedding for node in ingested] == [node.embedding for node in by_base]
        assert len(asked) == 2 * len(nodes)
        assert pipeline.run(nodes=nodes) == ingested
        assert len(asked) == 2 * len(nodes)  # the second run is the cache's

        filled = VectorStoreIndex(ingested, embed_model=adapted)
        assert len(asked) == 2 * len(nodes)  # nodes with vectors are not embedded again
        assert first(filled.as_retriever().retrieve(QUESTION)) == ANSWER


# The facts that a sparse half needs: whole words, each with its own number.
def words(texts: list[str]) -> tuple[list[list[int]], list[list[float]]]:
    vocabulary = {
        word: number
        for number, word in enumerate(sorted({w for t in PASSAGES.values() for w in t.split()}))
    }
    rows = [sorted({vocabulary[w] for w in text.split() if w in vocabulary}) for text in texts]
    return rows, [[1.0] * len(row) for row in rows]


class TestQdrant:
    @pytest.fixture
    def store(self, index, tmp_path):
        store = QdrantVectorStore(
            "manuals",
            client=QdrantClient(path=str(tmp_path)),
            enable_hybrid=True,
            sparse_doc_fn=words,
            sparse_query_fn=words,
        )
        store.add(
            [
                TextNode(id_=str(uuid5(NAMESPACE_OID, name)), text=PASSAGES[name], embedding=vector)
                for name, vector in index.vector_store.data.embedding_dict.items()
            ]
        )
        yield store
        store.client.close()

    @pytest.fixture
    def stored(self, store, tmp_path):
        """The rows on disk; in memory, Qdrant's local mode normalises anew at every search."""
        file = tmp_path / "collection" / "manuals" / "storage.sqlite"

        def rows() -> set[tuple[str, bytes]]:
            with closing(sqlite3.connect(file)) as connection:
                return set(connection.execute("SELECT id, point FROM points"))

        return rows

    def test_from_vector_store(self, store, stored, adapted, base):
        before = stored()
        index = VectorStoreIndex.from_vector_store(store, embed_model=adapted)
        assert text_of(index.as_retriever().retrieve(QUESTION)) == FALCON
        plain = VectorStoreIndex.from_vector_store(store, embed_model=base)
        assert text_of(plain.as_retriever().retrieve(QUESTION)) != FALCON
        assert stored() == before
        assert len(before) == len(PASSAGES)

        # A document that joins gets the base model's vector, at its unit length in Qdrant.
        text = "The Falcon has moved to the mail room."
        index.insert_nodes([TextNode(text=text)])
        assert len(stored() - before) == 1
        assert before < stored()
        joined = next(
            point.vector[store.dense_vector_name]
            for point in store.client.scroll("manuals", limit=100, with_vectors=True)[0]
            if text in str(point.payload)
        )
        assert joined == pytest.approx(base.get_text_embedding(text), abs=1e-6)

    def test_hybrid(self, store, stored, adapted):
        before = stored()
        index = VectorStoreIndex.from_vector_store(store, embed_model=adapted)

        def ask(question: str, alpha: float) -> str:
            retriever = index.as_retriever(
                vector_store_query_mode="hybrid", alpha=alpha, similarity_top_k=1, sparse_top_k=12
            )
            return text_of(retriever.retrieve(question))

        assert ask(QUESTION, alpha=1.0) == FALCON  # the dense half alone
        assert "cabinet" in ask("cabinet", alpha=0.0)  # the words alone
        assert stored() == before


class TestParents:
    """Small chunks are searched, what surrounds them is returned."""

    async def test_auto_merging(self, base, adapted):
        parser = HierarchicalNodeParser.from_defaults(chunk_sizes=[256, 40], chunk_overlap=0)
        documents = [Document(id_=device, text=text) for device, text in MANUALS.items()]
        tree = parser.get_nodes_from_documents(documents)
        leaves = get_leaf_nodes(tree)
        assert len(leaves) > 2 * len(documents)
        storage = StorageContext.from_defaults()
        storage.docstore.add_documents(tree)
        index = VectorStoreIndex(leaves, storage_context=storage, embed_model=base)

        def parents(embed_model=None) -> AutoMergingRetriever:
            inner = index.as_retriever(similarity_top_k=1, embed_model=embed_model)
            return AutoMergingRetriever(inner, storage, simple_ratio_thresh=0.1)

        with unchanged(index):
            for found in (
                parents(adapted).retrieve(QUESTION),
                await parents(adapted).aretrieve(QUESTION),
            ):
                assert [hit.text for hit in found] == [MANUALS["label printer"]]
            assert [hit.text for hit in parents().retrieve(QUESTION)] != [MANUALS["label printer"]]

    async def test_sentence_windows(self, base, adapted):
        parser = SentenceWindowNodeParser.from_defaults(window_size=1)
        sentences = parser.get_nodes_from_documents([Document(text=t) for t in MANUALS.values()])
        index = VectorStoreIndex(sentences, embed_model=base)
        engine = index.as_query_engine(
            llm=ScriptedLLM(echo),
            embed_model=adapted,
            similarity_top_k=1,
            node_postprocessors=[MetadataReplacementPostProcessor("window")],
        )
        with unchanged(index):
            for answer in (engine.query(QUESTION), await engine.aquery(QUESTION)):
                assert FALCON in " ".join(str(answer).split())

    async def test_small_to_big(self, nodes, base, adapted):
        """A chunk is an IndexNode that leads to its passage."""
        splitter = SentenceSplitter(chunk_size=20, chunk_overlap=0)
        chunks = [
            IndexNode.from_text_node(TextNode(text=chunk), node.node_id)
            for node in nodes
            for chunk in splitter.split_text(node.text)
        ]
        assert len(chunks) > len(nodes)
        index = VectorStoreIndex(chunks, embed_model=base)
        await check_recursive(index, nodes, adapted)

    async def test_summaries_and_hypothetical_questions(self, nodes, base, adapted):
        """Several vectors lead to one passage; it is returned once."""
        llm = ScriptedLLM(lambda prompt: f"Instructions. {prompt}\nWhat is to be done? {prompt}")
        invented = [
            IndexNode.from_text_node(TextNode(text=line), node.node_id)
            for node in nodes
            for line in str(llm.complete(node.text)).splitlines()
        ]
        index = VectorStoreIndex([*nodes, *invented], embed_model=base)
        assert len(vectors_of(index)) == 3 * len(nodes)
        await check_recursive(index, nodes, adapted, top_k=3)


async def check_recursive(index, nodes, adapted, top_k: int = 1) -> None:
    by_id = {node.node_id: node for node in nodes}

    def passages(embed_model) -> RecursiveRetriever:
        inner = index.as_retriever(similarity_top_k=top_k, embed_model=embed_model)
        return RecursiveRetriever("vector", retriever_dict={"vector": inner}, node_dict=by_id)

    with unchanged(index):
        found = passages(adapted).retrieve(QUESTION)
        again = await passages(adapted).aretrieve(QUESTION)
        assert first(found) == first(again) == ANSWER
        assert len({hit.node_id for hit in found}) == len(found)
        assert first(passages(None).retrieve(QUESTION)) != ANSWER


class TestTables:
    async def test_recursive_retriever_over_tables_and_text(self, base, adapted):
        """The vector of a table is that of its summary; what is returned is the table."""
        rows = "\n".join(f"| {month} | {number} |" for month, number in [("May", 3), ("June", 8)])
        parts = [
            f"The {device} stands in the hall.\n\n| month | jams |\n|---|---|\n{rows}\n"
            f"\nIts manual is in the desk."
            for device in DEVICES.values()
        ]
        index_nodes, tables = [], {}
        for device, part in zip(DEVICES.values(), parts, strict=True):
            summary = TableOutput(summary=f"How often the {device} jammed, by month.", columns=[])
            llm = ScriptedLLM(lambda _, summary=summary: summary.model_dump_json())
            parser = MarkdownElementNodeParser(llm=llm, num_workers=1)
            parsed = await parser.aget_nodes_from_documents([Document(text=part)])
            texts, objects = parser.get_nodes_and_objects(parsed)
            index_nodes += [*texts, *objects]
            tables[device] = next(node for node in parsed if "|8|" in node.get_content())
        assert sum(isinstance(node, IndexNode) for node in index_nodes) == len(DEVICES)
        index = VectorStoreIndex(index_nodes, embed_model=base)
        retriever = RecursiveRetriever(
            "vector",
            retriever_dict={"vector": index.as_retriever(similarity_top_k=1, embed_model=adapted)},
            node_dict={node.node_id: node for node in tables.values()},
        )
        with unchanged(index):
            for device, table in tables.items():
                question = f"How often did the {NICKNAMES[device]} jam each month?"
                assert first(retriever.retrieve(question)) == table.node_id
                assert first(await retriever.aretrieve(question)) == table.node_id


class TestSeveralQueries:
    @pytest.mark.parametrize("use_async", [False, True])
    async def test_query_fusion(self, index, adapted, use_async):
        """Each wording that the language model adds is embedded and adapted."""
        llm = ScriptedLLM(lambda _: "How is the Falcon switched off and on?")
        retriever = QueryFusionRetriever(
            [index.as_retriever(embed_model=adapted)],
            llm=llm,
            mode="reciprocal_rerank",
            num_queries=2,
            use_async=use_async,
        )
        with unchanged(index):
            found = (
                await retriever.aretrieve(QUESTION) if use_async else retriever.retrieve(QUESTION)
            )
        assert first(found) == ANSWER
        assert len(llm.prompts) == 1

    async def test_fusion_of_two_models_needs_async(self, index, base, adapted):
        """In step, the second retriever finds the first one's vector in the shared bundle."""
        retrievers = [
            index.as_retriever(embed_model=model, similarity_top_k=1) for model in (base, adapted)
        ]
        alone = {first(retriever.retrieve(QueryBundle(QUESTION))) for retriever in retrievers}
        assert len(alone) == 2
        fused = partial(QueryFusionRetriever, retrievers, llm=ScriptedLLM(), num_queries=1)
        found = await fused(use_async=True).aretrieve(QUESTION)
        assert {hit.node_id for hit in found} == alone
        in_step = fused(use_async=False).retrieve(QUESTION)
        assert {hit.node_id for hit in in_step} < alone

    async def test_hyde(self, index, adapted):
        """The invented answer and the question are both adapted; their mean is searched."""
        invented = "Switch the Falcon off and on again."
        hyde = HyDEQueryTransform(llm=ScriptedLLM(lambda _: invented), include_original=True)
        bundle = hyde.run(QUESTION)
        assert bundle.embedding_strs == [invented, QUESTION]
        expected = np.mean([adapted.get_query_embedding(t) for t in (invented, QUESTION)], axis=0)
        retriever = index.as_retriever(embed_model=adapted, similarity_top_k=1)
        with unchanged(index):
            assert first(retriever.retrieve(bundle)) == ANSWER
            assert bundle.embedding == pytest.approx(expected)
            engine = TransformQueryEngine(
                RetrieverQueryEngine.from_args(retriever, llm=ScriptedLLM(echo)), hyde
            )
            assert FALCON in str(engine.query(QUESTION))
            assert FALCON in str(await engine.aquery(QUESTION))


class TestRouters:
    def tools(self, nodes, base, embed_model) -> tuple[list[RetrieverTool], list[VectorStoreIndex]]:
        indexes = [
            VectorStoreIndex([n for n in nodes if n.text == text], embed_model=base)
            for text in (PASSAGES["clean label printer"], FALCON)
        ]
        return [
            RetrieverTool.from_defaults(
                index.as_retriever(embed_model=embed_model), description=description
            )
            for index, description in zip(indexes, ("cleaning", "restarting"), strict=True)
        ], indexes

    async def test_llm_selector(self, nodes, base, adapted):
        llm = ScriptedLLM(lambda _: '[{"choice": 2, "reason": "it is about restarting"}]')
        tools, indexes = self.tools(nodes, base, adapted)
        router = RouterRetriever(LLMSingleSelector.from_defaults(llm=llm), tools, llm=llm)
        with unchanged(*indexes):
            assert first(router.retrieve(QUESTION)) == ANSWER
            assert first(await router.aretrieve(QUESTION)) == ANSWER

    def test_embedding_selector(self, index, base, adapted, subtests):
        """The choice between descriptions is a query as well, and is adapted."""
        for nickname in DEVICES:
            with subtests.test(nickname=nickname):
                descriptions = [f"All about the {device}" for device in DEVICES.values()]
                tools = [
                    RetrieverTool.from_defaults(index.as_retriever(), description=description)
                    for description in descriptions
                ]
                selector = EmbeddingSingleSelector.from_defaults(embed_model=adapted)
                chosen = selector.select(
                    [tool.metadata for tool in tools], f"How do I reboot the {nickname}?"
                )
                assert chosen.ind == list(DEVICES).index(nickname)


async def test_multi_document_agent(base, adapted):
    """A vector and a summary tool for each document, and an agent that calls them."""
    tools, indexes = [], []
    for device, manual in MANUALS.items():
        document = Document(text=manual)
        chunks = SentenceSplitter(chunk_size=40, chunk_overlap=0).get_nodes_from_documents(
            [document]
        )
        vector = VectorStoreIndex(chunks, embed_model=base)
        indexes.append(vector)
        engines = {
            "vector": vector.as_query_engine(
                llm=ScriptedLLM(echo), embed_model=adapted, similarity_top_k=1
            ),
            "summary": SummaryIndex(chunks).as_query_engine(
                llm=ScriptedLLM(lambda _, device=device: f"A manual of the {device}."),
                response_mode="tree_summarize",
            ),
        }
        name = device.replace(" ", "_")
        tools += [
            QueryEngineTool.from_defaults(
                engine, name=f"{kind}_{name}", description=f"{kind} of the {device}"
            )
            for kind, engine in engines.items()
        ]
    calls = [("vector_label_printer", QUESTION), ("summary_parcel_scale", "What is it?")]
    agent = FunctionAgent(tools=tools, llm=calling(calls), streaming=False)
    with unchanged(*indexes):
        handler = agent.run("Reboot the Falcon, and tell me about the Condor.")
        outputs = [
            str(event.tool_output.content)
            async for event in handler.stream_events()
            if isinstance(event, ToolCallResult)
        ]
        assert str(await handler) == "Done."
    assert FALCON.split(". ")[0] in outputs[0]
    assert outputs[1] == "A manual of the parcel scale."


def calling(calls: list[tuple[str, str]]) -> MockFunctionCallingLLM:
    """A scripted model that calls tools one after the other, and then is done."""
    left: list[TextBlock | ToolCallBlock] = [
        *(
            ToolCallBlock(tool_call_id=name, tool_name=name, tool_kwargs={"input": question})
            for name, question in calls
        ),
        TextBlock(text="Done."),
    ]

    def respond(messages: object, **kwargs: object) -> ChatMessage:
        return ChatMessage(role="assistant", blocks=[left.pop(0)])

    return MockFunctionCallingLLM(response_generator=respond)


class TestQueryBundle:
    """What LlamaIndex 0.14 does with a bundle that is used twice, which the guide warns of."""

    def test_it_keeps_the_first_models_vector(self, index, base, adapted):
        by_base, by_adapted = (
            index.as_retriever(embed_model=model, similarity_top_k=1) for model in (base, adapted)
        )
        used = QueryBundle(QUESTION)
        wrong = first(by_base.retrieve(used))
        assert used.embedding == base.get_query_embedding(QUESTION)
        assert first(by_adapted.retrieve(used)) == wrong
        assert first(by_adapted.retrieve(QueryBundle(QUESTION))) == ANSWER
