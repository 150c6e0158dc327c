"""An embedding model with what it is known by and what people call it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from llama_index.core.base.embeddings.base import BaseEmbedding

from llama_index_adapters.errors import InvalidOptionError
from llama_index_adapters.files.content import expanded
from llama_index_adapters.services.identity.folders import model_files
from llama_index_adapters.services.identity.identity import Identity, identity_of
from llama_index_adapters.vectors.former_identity import former_identity


@dataclass(frozen=True, eq=False)
class IdentifiedModel:
    """An embedding model, what it is known by and what people call it.

    Both are made of the model when they are first asked for, and not again.

    Attributes:
        model: the embedding model.

    Raises:
        InvalidOptionError: when it is something else.
    """

    model: BaseEmbedding

    def __post_init__(self) -> None:
        checked_model(self.model)

    @cached_property
    def identity(self) -> str:
        """A sha256 over whatever can change a vector.

        See :mod:`llama_index_adapters.services.identity.identity`. A model that was loaded from a
        folder is known by the content of its files: elsewhere it is the same, changed it is
        another.
        """
        return self._identity.digest

    @property
    def is_lasting(self) -> bool:
        """Whether the identity is the same in another process."""
        return self._identity.lasting

    @cached_property
    def former_identity(self) -> str | None:
        """What stores of format 1 know the model by; None where that was not enough."""
        return former_identity(self.model)

    @cached_property
    def _identity(self) -> Identity:
        return identity_of(self.model)

    @cached_property
    def label(self) -> str:
        """The model's name for people; of a folder, its last component."""
        name = self.model.model_name
        if not name or name == "unknown":
            return type(self.model).__name__
        path = Path(name)
        if path.is_absolute() or model_files(self.model) is not None:
            return expanded(path).resolve().name
        return name


def checked_model(embed_model: object) -> BaseEmbedding:
    """Return it when it is an embedding model.

    Raises:
        InvalidOptionError: when it is something else.
    """
    if not isinstance(embed_model, BaseEmbedding):
        raise InvalidOptionError(
            f"embed_model is {type(embed_model).__name__}; expected a LlamaIndex embedding "
            "model, such as OpenAIEmbedding() or local_embedding()."
        )
    return embed_model
