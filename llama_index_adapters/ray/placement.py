"""Which node work belongs to."""

from __future__ import annotations

from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy


def connect() -> None:
    """Connect as Ray does by itself, so that the cluster can be asked about."""
    if not ray.is_initialized():
        ray.init()


def beside_the_driver() -> dict[str, Any]:
    """Return options of a task or actor that runs on the driver's node and reserves nothing."""
    node = ray.get_runtime_context().get_node_id()
    return {
        "num_cpus": 0,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node_id=node, soft=False),
    }
