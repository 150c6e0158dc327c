"""Whether the models that are handed in are those an adapter was trained with."""

from __future__ import annotations

import logging

from llama_index_adapters.adapters.disk.config import QueryModel
from llama_index_adapters.adapters.disk.metadata import AdapterMetadata
from llama_index_adapters.errors import ModelMismatchError
from llama_index_adapters.services.identity.identity import RULES
from llama_index_adapters.vectors.identity import IdentifiedModel
from llama_index_adapters.vectors.query_models import QueryModels

logger = logging.getLogger(__name__)


def require_models(
    models: QueryModels, metadata: AdapterMetadata, path: str, *, check_names: bool
) -> None:
    """Refuse other models than those of the training, or another order of them.

    Args:
        models: the models that are handed in.
        metadata: what the adapter says of its own.
        path: where the adapter is, for the message.
        check_names: whether names are compared too; number and roles always are.

    Raises:
        ModelMismatchError: saying which models the adapter takes.
    """
    saved = metadata.query_models
    if [model.role for model in saved] != list(models.roles):
        raise ModelMismatchError(
            f"The adapter at {path} takes the query vectors of {_described(saved)}; "
            f"{_given(models)}. {_way_out(saved)}"
        )
    if not check_names:
        return
    for trained_with, model in zip(saved, models.models, strict=True):
        _check_name(trained_with, model, path)


def _check_name(saved: QueryModel, model: IdentifiedModel, path: str) -> None:
    if saved.name is None:
        return
    role = "base" if saved.role == "base" else "query"
    if saved.name != model.label:
        raise ModelMismatchError(
            f"The adapter at {path} was trained on {saved.name!r}, but the {role} model is "
            f"{model.label!r}. Pass the model it was trained on, or check_model_name=False when "
            "both names stand for the same vectors."
        )
    if saved.identity in (None, model.identity, model.former_identity):
        return
    if not saved.identity.startswith(RULES) or not model.is_lasting:
        logger.warning(
            "Whether the %s model %r has the settings that the adapter at %s was trained with "
            "cannot be told: %s.",
            role,
            model.label,
            path,
            "its settings cannot be read"
            if saved.identity.startswith(RULES)
            else "the adapter knows it by earlier rules",
        )
        return
    raise ModelMismatchError(
        f"The adapter at {path} was trained on {model.label!r} with other settings "
        f"(instructions, pooling, code, weights, ...) than the {role} model has now, so its "
        "vectors may differ. Pass the model as it was in training, or check_model_name=False when "
        "both give the same vectors."
    )


def _described(saved: object) -> str:
    assert isinstance(saved, tuple | list)
    return " and ".join(
        (model.name or "an unnamed model") + (" (the index's own)" if model.role == "base" else "")
        for model in saved
    )


def _given(models: QueryModels) -> str:
    if models.is_base_alone:
        return "given is base_embed_model alone"
    own = "none of them the index's own" if models.base not in models.models else "in this order"
    return f"given are {models.names}, {own}"


def _way_out(saved: object) -> str:
    assert isinstance(saved, tuple | list)
    if len(saved) == 1 and saved[0].role == "base":
        return "Give it as base_embed_model, without query_embed_models."
    return "Give query_embed_models=[...] with these models, in this order."
