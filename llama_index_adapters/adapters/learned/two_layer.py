"""Two-layer adapters: a small network beside the identity."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from llama_index_adapters.adapters.learned.base import BaseAdapter, require_dimensions
from llama_index_adapters.adapters.served.two_layer import (
    ACTIVATIONS,
    Activation,
    require_activation,
)
from llama_index_adapters.checks import require_seed

# The torch twins of ``served.two_layer.ACTIVATIONS``.
_ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "leaky_relu": functional.leaky_relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "gelu": lambda x: functional.gelu(x, approximate="tanh"),
}


class TwoLayerAdapter(BaseAdapter):
    """``q' = q + W2 f(W1 q + b1) + b2``, starting as the identity because ``W2`` is zero.

    Args:
        in_features: dimension of the query vectors.
        hidden_features: width of the hidden layer; ``in_features`` when left out.
        out_features: dimension of the passage vectors; the same when left out. When it
            differs, a learned matrix with ones on its main diagonal replaces the plain ``q``.
        bias: learn ``b1`` and ``b2``.
        activation: ``relu``, ``leaky_relu``, ``tanh``, ``sigmoid`` or ``gelu``.
        seed: seed of the first layer's random start.

    Raises:
        InvalidOptionError: for dimensions that are not from 1 to 65,536.
        InvalidAdapterError: for an unknown activation.
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int | None = None,
        out_features: int | None = None,
        bias: bool = True,
        *,
        activation: Activation = "gelu",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.in_features = in_features
        self.hidden_features = in_features if hidden_features is None else hidden_features
        self.out_features = in_features if out_features is None else out_features
        require_dimensions(
            in_features=self.in_features,
            hidden_features=self.hidden_features,
            out_features=self.out_features,
        )
        require_seed(seed)
        self.bias = bias
        self.activation = require_activation(activation)
        self.linear1 = nn.Linear(self.in_features, self.hidden_features, bias=bias)
        self.linear2 = nn.Linear(self.hidden_features, self.out_features, bias=bias)
        generator = torch.Generator().manual_seed(seed)
        nn.init.normal_(self.linear1.weight, std=in_features**-0.5, generator=generator)
        nn.init.zeros_(self.linear2.weight)
        if bias:
            nn.init.zeros_(self.linear1.bias)
            nn.init.zeros_(self.linear2.bias)
        if self.in_features != self.out_features:
            self.skip = nn.Linear(self.in_features, self.out_features, bias=False)
            nn.init.eye_(self.skip.weight)

    def forward(self, embed: Tensor) -> Tensor:
        """Map ``(..., in_features)`` to ``(..., out_features)``."""
        skipped = embed if self.in_features == self.out_features else self.skip(embed)
        residual: Tensor = self.linear2(_ACTIVATIONS[self.activation](self.linear1(embed)))
        return skipped + residual

    def get_config_dict(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "in_features": self.in_features,
            "hidden_features": self.hidden_features,
            "out_features": self.out_features,
            "bias": self.bias,
            "activation": self.activation,
        }

    @classmethod
    def example_arguments(cls, dim: int) -> list[dict[str, Any]]:
        """Return arguments that between them reach every branch, for tests of both halves."""
        return [
            {"in_features": dim, "hidden_features": 7, "bias": False},
            {"in_features": dim, "hidden_features": 7, "out_features": dim + 8},
            {"in_features": dim, "out_features": dim - 7},
            *({"in_features": dim, "hidden_features": 7, "activation": f} for f in ACTIVATIONS),
        ]


class TwoLayerNN(BaseAdapter):
    """LlamaIndex's two-layer network, kept for code and directories written for it.

    ``q' = r · (W2 f(W1 q + b1) + b2) + q`` with ``add_residual`` (``r`` is learned, from 0),
    else ``W2 f(W1 q + b1) + b2`` from a random start. New code is better served by
    :class:`TwoLayerAdapter`, which always starts as the identity.

    Args:
        in_features: dimension of the query vectors.
        hidden_features: width of the hidden layer.
        out_features: dimension of the passage vectors.
        bias: kept for compatibility; as in LlamaIndex, both layers have a bias.
        activation_fn_str: name of the activation.
        add_residual: add the query to the result.
        seed: seed of the random start.

    Raises:
        InvalidOptionError: for dimensions that are not from 1 to 65,536.
        InvalidAdapterError: for an unknown activation.
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        out_features: int,
        bias: bool = False,
        activation_fn_str: str = "relu",
        add_residual: bool = False,
        *,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.in_features = in_features
        self.hidden_features = hidden_features
        self.out_features = out_features
        require_dimensions(
            in_features=self.in_features,
            hidden_features=self.hidden_features,
            out_features=self.out_features,
        )
        require_seed(seed)
        self.bias = bias
        self.activation_fn_str = require_activation(activation_fn_str)
        self.linear1 = nn.Linear(in_features, hidden_features)
        self.linear2 = nn.Linear(hidden_features, out_features)
        self.residual_weight = nn.Parameter(torch.zeros(1))
        self._add_residual = add_residual
        generator = torch.Generator().manual_seed(seed)
        for layer in (self.linear1, self.linear2):
            bound = layer.in_features**-0.5
            nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
            nn.init.uniform_(layer.bias, -bound, bound, generator=generator)

    def forward(self, embed: Tensor) -> Tensor:
        """Map ``(..., in_features)`` to ``(..., out_features)``."""
        activated = _ACTIVATIONS[self.activation_fn_str](self.linear1(embed))
        result: Tensor = self.linear2(activated)
        return self.residual_weight * result + embed if self._add_residual else result

    def get_config_dict(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "in_features": self.in_features,
            "hidden_features": self.hidden_features,
            "out_features": self.out_features,
            "bias": self.bias,
            "activation_fn_str": self.activation_fn_str,
            "add_residual": self._add_residual,
        }

    @classmethod
    def example_arguments(cls, dim: int) -> list[dict[str, Any]]:
        """Return arguments that between them reach every branch, for tests of both halves."""
        hidden = {"in_features": dim, "hidden_features": 7}
        return [
            {**hidden, "out_features": dim + 8},
            *(
                {**hidden, "out_features": dim, "activation_fn_str": f, "add_residual": True}
                for f in ACTIVATIONS
            ),
        ]
