"""The README.md beside a saved adapter: what it is, how good it is, how to use it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_index_adapters.adapters.disk.config import AdapterConfig, Dimensions

_KIND_METRIC = "ndcg@10"


def model_card(config: AdapterConfig) -> str:
    """Return the model card of an adapter, as Markdown."""
    kind, dimensions = config.queries.kind, config.queries.dimensions
    names = [f"`{_one_line(model.name)}`" for model in config.query_models if model.name]
    model = " and ".join(names) or "an embedding model it does not name"
    does = (
        "It changes the vector of a query and leaves the vectors of the documents as they are, so "
        "an existing index keeps working."
    )
    if config.passages is not None:
        does = (
            "It maps the vectors of queries and of documents, for an index that `rewrite_index` "
            "copied with it; an index of the base model is of other dimensions."
        )
    sections = [
        "---\nlibrary_name: llama-index-adapters\n"
        "tags:\n- embeddings\n- retrieval\n- llama-index\n---",
        "# Embedding adapter",
        f"A {kind} adapter for {'both sides' if config.passages else 'the query side'} of {model}. "
        f"{does}{_from_to(dimensions)}",
        "## Use",
        "```python\n"
        "from llama_index_adapters import AdapterEmbeddingModel\n"
        f"embed_model = AdapterEmbeddingModel({_arguments(config)})\n"
        f"{_retriever(config)}\n```",
        _models_in_words(config)
        + (", `MyAdapter` the adapter's own class" if kind == "custom" else "")
        + ". Install with `pip install llama-index-adapters`.",
        *_table(config.metrics),
        *_kinds(config.metrics),
        *_counts(config.data),
    ]
    return "\n\n".join(sections) + "\n"


def _retriever(config: AdapterConfig) -> str:
    if config.passages is None:
        return "retriever = index.as_retriever(embed_model=embed_model)"
    return (
        "from llama_index_adapters import rewrite_index\n"
        "smaller = rewrite_index(index, embed_model, empty_vector_store)\n"
        "retriever = smaller.as_retriever()"
    )


def _from_to(dimensions: Dimensions) -> str:
    if not (dimensions.input and dimensions.output):
        return ""
    return (
        f" It takes vectors of {dimensions.input} dimensions and returns vectors of "
        f"{dimensions.output}."
    )


def _arguments(config: AdapterConfig) -> str:
    roles = [model.role for model in config.query_models]
    arguments = '{}, "path/to/this/directory"'.format(
        "base_embed_model" if "base" in roles else None
    )
    if roles != ["base"]:
        others = _others(config)
        models = ["base_embed_model" if role == "base" else others.pop(0) for role in roles]
        arguments += f", query_embed_models=[{', '.join(models)}]"
    return arguments + (", adapter_cls=MyAdapter" if config.queries.kind == "custom" else "")


def _others(config: AdapterConfig) -> list[str]:
    count = sum(model.role == "other" for model in config.query_models)
    return ["other"] if count == 1 else [f"other_{number}" for number in range(1, count + 1)]


def _models_in_words(config: AdapterConfig) -> str:
    """Say which variable of the example is which model."""
    if [model.role for model in config.query_models] == ["base"]:
        return "`base_embed_model` is the LlamaIndex embedding model named above"
    others = _others(config)
    named = [
        f"`{'base_embed_model' if model.role == 'base' else others.pop(0)}` is "
        f"{_one_line(model.name or 'an embedding model it does not name')}"
        for model in config.query_models
    ]
    return ", ".join(named)


def _table(metrics: Mapping[str, Any]) -> list[str]:
    base, adapted = metrics.get("base"), metrics.get("adapted")
    if not isinstance(base, Mapping) or not isinstance(adapted, Mapping):
        return []
    rows = [
        f"| {name} | {base[name]:.4f} | {adapted[name]:.4f} | {adapted[name] - base[name]:+.4f} |"
        for name in sorted(base)
        if isinstance(base[name], float) and isinstance(adapted.get(name), float)
    ]
    if not rows:
        return []
    head = ["| metric | base model | with the adapter | change |", "|---|---|---|---|"]
    return ["## Measured", "\n".join([*head, *rows])]


def _kinds(metrics: Mapping[str, Any]) -> list[str]:
    """Return the gain on questions about seen and about unseen passages."""
    if not isinstance(metrics.get("base"), Mapping):
        return []
    rows = []
    for name, word in (
        ("seen", "passages that training asked about"),
        ("unseen", "other passages"),
    ):
        kind = metrics.get(name)
        if not isinstance(kind, Mapping):
            return ["Changes on passages that training asked about, and on others: unknown."]
        gain = kind["gains"].get(_KIND_METRIC)
        if gain is None:
            rows.append(f"| {word} | {kind['queries']:,} | not measured | |")
        else:
            interval = f"{gain['low']:+.4f} to {gain['high']:+.4f}"
            rows.append(f"| {word} | {kind['queries']:,} | {gain['mean']:+.4f} | {interval} |")
    head = [f"| questions about | questions | change in {_KIND_METRIC} | 95% interval |"]
    return ["\n".join([*head, "|---|---|---|---|", *rows])]


def _counts(data: Mapping[str, Any]) -> list[str]:
    counts = [f"{data[name]:,} {name}" for name in ("queries", "passages") if data.get(name)]
    if not counts:
        return []
    copies = f", {data['copies']:,} of them copies of others" if data.get("copies") else ""
    return ["## Training data", f"Trained on {' and '.join(counts)}{copies}."]


def _one_line(text: str) -> str:
    return " ".join(text.replace("`", "'").split())
