"""Linear adapters: ``q' = W q + b``, full or low-rank, and the identity."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from llama_index_adapters.adapters.learned.base import BaseAdapter, require_dimensions
from llama_index_adapters.checks import require_seed
from llama_index_adapters.errors import InvalidOptionError


class LinearAdapter(BaseAdapter):
    """``q' = W q + b``, starting as the identity.

    With ``rank`` the matrix is ``I + U D`` with ``U`` of shape ``(out, rank)`` and ``D`` of
    shape ``(rank, in)``: fewer parameters to learn and a cheaper query. ``U`` starts at zero.

    Args:
        in_features: dimension of the query vectors.
        out_features: dimension of the passage vectors; the same when left out. When it
            differs, ``W`` starts with ones on its main diagonal.
        bias: learn ``b`` too.
        rank: rank of the low-rank form; None for a full matrix.
        seed: seed of the low-rank form's random start.

    Raises:
        InvalidOptionError: for dimensions that are not from 1 to 65,536, a rank that is not
            between 1 and the dimension, or a low-rank form that is not square.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int | None = None,
        bias: bool = False,
        *,
        rank: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = in_features if out_features is None else out_features
        require_dimensions(in_features=self.in_features, out_features=self.out_features)
        require_seed(seed)
        self.bias = bias
        self.rank = rank
        if rank is None:
            self.linear = nn.Linear(self.in_features, self.out_features, bias=bias)
            nn.init.eye_(self.linear.weight)
            last = self.linear
        else:
            square = self.in_features == self.out_features
            if not square or type(rank) is not int or not 1 <= rank <= in_features:
                raise InvalidOptionError(
                    f"rank={rank!r} with {in_features} to {self.out_features} dimensions; a "
                    f"low-rank adapter is square, with a rank from 1 to {in_features}."
                )
            self.down = nn.Linear(in_features, rank, bias=False)
            self.up = nn.Linear(rank, in_features, bias=bias)
            generator = torch.Generator().manual_seed(seed)
            nn.init.normal_(self.down.weight, std=in_features**-0.5, generator=generator)
            nn.init.zeros_(self.up.weight)
            last = self.up
        if bias:
            nn.init.zeros_(last.bias)

    def forward(self, embed: Tensor) -> Tensor:
        """Map ``(..., in_features)`` to ``(..., out_features)``."""
        if self.rank is None:
            mapped: Tensor = self.linear(embed)
            return mapped
        adapted: Tensor = embed + self.up(self.down(embed))
        return adapted

    def get_config_dict(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "bias": self.bias,
            "rank": self.rank,
        }

    @classmethod
    def example_arguments(cls, dim: int) -> list[dict[str, Any]]:
        """Return arguments that between them reach every branch, for tests of both halves."""
        return [
            {"in_features": dim},
            {"in_features": dim, "bias": True},
            {"in_features": dim, "out_features": dim + 8, "bias": True},
            {"in_features": dim, "out_features": dim - 7},
            {"in_features": dim, "rank": 3},
            {"in_features": dim, "rank": 3, "bias": True},
        ]


# LlamaIndex's name; same arguments, same arrays.
LinearLayer = LinearAdapter


class IdentityAdapter(BaseAdapter):
    """Leaves every query as it is; what a run returns when nothing beat the base model."""

    def __init__(self, in_features: int) -> None:
        super().__init__()
        require_dimensions(in_features=in_features)
        self.in_features = in_features

    def forward(self, embed: Tensor) -> Tensor:
        """Return the queries."""
        return embed

    def get_config_dict(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"in_features": self.in_features}

    @classmethod
    def example_arguments(cls, dim: int) -> list[dict[str, Any]]:
        """Return arguments that between them reach every branch, for tests of both halves."""
        return [{"in_features": dim}]
