"""Which adapter an engine trains: one of the user's, a family, or what a search chooses."""

from __future__ import annotations

import copy
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llama_index_adapters.adapters.families import ADAPTERS, AdapterName
from llama_index_adapters.checks import require_one_of, require_whole
from llama_index_adapters.errors import InvalidOptionError

if TYPE_CHECKING:
    from llama_index_adapters.adapters.learned.base import BaseAdapter

# What a search decides itself, or leaves alone; any other training option is meant for one
# training of one family.
_OPTIONS_OF_A_SEARCH = frozenset({"epochs", "batch_size", "device", "seed", "unseen_share"})


@dataclass(frozen=True)
class AdapterChoice:
    """The adapter that a user asked for.

    Attributes:
        name: a family, or ``"auto"`` for a search.
        model: an adapter to train as it is; then the name does not matter.
        bias: whether to learn a bias; as the family does when None.
        rank: of the low-rank family; its default when None.

    Raises:
        InvalidOptionError: for values that cannot be used, or not together.
    """

    name: AdapterName
    model: BaseAdapter | None = None
    bias: bool | None = None
    rank: int | None = None

    def __post_init__(self) -> None:
        """Refuse what does not fit together."""
        require_one_of(self.name, "adapter", ADAPTERS)
        if self.rank is not None:
            if self.name != "low-rank" or self.model is not None:
                raise InvalidOptionError(
                    f"rank is {self.rank}, but only adapter='low-rank' has one. Leave rank out."
                )
            require_whole(self.rank, "rank")
        if self.model is not None:
            _require_adapter(self.model)

    def family(self, named: Collection[str]) -> AdapterName:
        """Return what is trained when these training options were given by name.

        A bias, or an option that only one training has, means the linear family where a search
        was not asked for.
        """
        one_training = self.bias is not None or not set(named) <= _OPTIONS_OF_A_SEARCH
        return "linear" if self.name == "auto" and one_training else self.name

    def searches(self, family: AdapterName) -> bool:
        """Return whether a family, as :meth:`family` gave it, means a search."""
        return self.model is None and family == "auto"

    def start(
        self, family: AdapterName, query_dim: int, passage_dim: int, *, seed: int
    ) -> BaseAdapter | None:
        """Return the untrained adapter; None for a search, which makes its own.

        Args:
            family: as :meth:`family` gave it.
            query_dim: dimension of the query vectors.
            passage_dim: dimension of the passage vectors.
            seed: of what starts at random.
        """
        from llama_index_adapters.adapters.learned.new import new_adapter

        if self.model is not None:
            return copy.deepcopy(self.model)
        if family == "auto":
            return None
        return new_adapter(
            family, query_dim, passage_dim, bias=self.bias, rank=self.rank, seed=seed
        )


def _require_adapter(model: object) -> None:
    from llama_index_adapters.adapters.learned.base import BaseAdapter

    if not isinstance(model, BaseAdapter):
        raise InvalidOptionError(
            f"adapter_model is a {type(model).__name__}; give an instance of a subclass of "
            "llama_index_adapters.BaseAdapter."
        )
