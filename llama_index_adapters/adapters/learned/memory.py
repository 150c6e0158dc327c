"""An adapter that remembers: training queries lead to the passages they were about."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from llama_index_adapters.adapters.learned.base import BaseAdapter

DEFAULT_NEIGHBOURS = 32
# The score of an entry that must not be recalled; finite, so that a softmax over nothing but
# such entries stays a number.
_FORGOTTEN = -1e4


class MemoryAdapter(BaseAdapter):
    """``q' = unit(W q) + a · sum_j w_j v_j``, a linear map plus recalled passages.

    The weights ``w`` are a softmax over the entries nearest to the query:
    ``softmax_j(t · unit(M q) · unit(M k_j))`` with entry ``j`` made of training queries ``k_j``
    and the vector ``v_j`` of the passage they were about. It helps where passages are asked
    about again, and costs one product with the entries per query.

    Args:
        in_features: dimension of the query vectors.
        out_features: dimension of the passage vectors; the same when left out.
        entries: how many entries it holds.
        neighbours: how many of the nearest entries are recalled.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int | None = None,
        entries: int = 1,
        neighbours: int = DEFAULT_NEIGHBOURS,
    ) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = in_features if out_features is None else out_features
        self.entries = entries
        self.neighbours = min(neighbours, entries)
        self.linear = nn.Linear(in_features, self.out_features, bias=False)
        nn.init.eye_(self.linear.weight)
        self.key_map = nn.Linear(in_features, in_features, bias=False)
        nn.init.eye_(self.key_map.weight)
        self.log_strength = nn.Parameter(torch.tensor([np.log(0.5)], dtype=torch.float32))
        self.log_sharpness = nn.Parameter(torch.tensor([np.log(20.0)], dtype=torch.float32))
        self.keys: Tensor
        self.values: Tensor
        self.register_buffer("keys", torch.zeros(entries, in_features))
        self.register_buffer("values", torch.zeros(entries, self.out_features))
        # Which entry holds a training query, and how many queries that entry is the mean of.
        self._entry_of_query: Tensor | None = None
        self._queries_of_entry: Tensor | None = None

    def remember(
        self,
        keys: NDArray[np.float32],
        values: NDArray[np.float32],
        entry_of_query: NDArray[np.int64],
    ) -> None:
        """Fill the memory.

        Args:
            keys: ``(entries, in_features)``, each the mean of the unit queries it stands for.
            values: ``(entries, out_features)``.
            entry_of_query: ``(n_queries,)`` the entry of each training query, -1 for none, so that
                training can leave a query out of its own entry.
        """
        self.keys.copy_(torch.from_numpy(keys))
        self.values.copy_(torch.from_numpy(values))
        self._entry_of_query = torch.from_numpy(entry_of_query)
        remembered = self._entry_of_query[self._entry_of_query >= 0]
        self._queries_of_entry = torch.bincount(remembered, minlength=self.entries)

    def forward(self, embed: Tensor) -> Tensor:
        """Map ``(..., in_features)`` to ``(..., out_features)``."""
        flat = embed.reshape(-1, self.in_features)
        mapped = self._mapped(flat, self._scores(flat))
        return mapped.reshape(*embed.shape[:-1], self.out_features)

    def training_forward(self, embed: Tensor, rows: Tensor) -> Tensor:
        """Map training queries as if each of them had not been remembered."""
        return self._mapped(embed, self._scores_without_self(embed, rows))

    def _scores(self, embed: Tensor) -> Tensor:
        keys = functional.normalize(self.key_map(self.keys), dim=-1)
        query = functional.normalize(self.key_map(embed), dim=-1)
        return self.log_sharpness.exp() * (query @ keys.T)

    def _scores_without_self(self, embed: Tensor, rows: Tensor) -> Tensor:
        scores = self._scores(embed)
        if self._entry_of_query is None or self._queries_of_entry is None:
            return scores
        entry = self._entry_of_query.to(rows.device)[rows]
        remembered = torch.nonzero(entry >= 0).squeeze(1)
        entry = entry[remembered]
        count = self._queries_of_entry.to(rows.device)[entry][:, None]
        units = functional.normalize(embed[remembered], dim=-1)
        others = functional.normalize(self.key_map(self.keys[entry] * count - units), dim=-1)
        query = functional.normalize(self.key_map(units), dim=-1)
        own = self.log_sharpness.exp() * (query * others).sum(dim=-1, keepdim=True)
        own = torch.where(count > 1, own, torch.full_like(own, _FORGOTTEN))
        return scores.index_put((remembered, entry), own.squeeze(1))

    def _mapped(self, embed: Tensor, scores: Tensor) -> Tensor:
        recalled = self._recalled(scores)
        mapped = functional.normalize(self.linear(embed), dim=-1)
        return mapped + self.log_strength.exp() * recalled

    def _recalled(self, scores: Tensor) -> Tensor:
        best, entry = scores.topk(self.neighbours, dim=1)
        return functional.embedding_bag(
            entry, self.values, mode="sum", per_sample_weights=torch.softmax(best, dim=1)
        )

    def get_config_dict(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "entries": self.entries,
            "neighbours": self.neighbours,
        }

    @classmethod
    def example_arguments(cls, dim: int) -> list[dict[str, Any]]:
        """Return arguments that between them reach every branch, for tests of both halves."""
        entries = {"entries": 40, "neighbours": 6}
        return [{"in_features": dim, "out_features": out, **entries} for out in (dim, dim + 8)]
